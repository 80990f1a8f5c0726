"""A gateway that runs for long, with everything going on and something breaking every minute."""
