"""Small loops beside the path of a call, each with its interval handed in."""
