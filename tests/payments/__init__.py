"""Payments: providers, what they tell, autopay."""
