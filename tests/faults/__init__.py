"""What is lost when something dies: gateways with open sessions, killed, stopped and cut off from their ledger."""
