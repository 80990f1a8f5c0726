"""Every parser of ours, given what nobody means well by: a little in each test run, minutes of it by `make fuzz`."""
