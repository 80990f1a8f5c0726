"""Tests of the upstream simulator, with the vendor's official clients where there are any."""
