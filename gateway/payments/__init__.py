"""Those who take money from payers, and what becomes of what they tell."""
