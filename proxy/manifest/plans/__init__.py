"""What each step does, decided from the records an adapter has read, without a database.

An adapter reads the rows a plan is made of, asks for the plan, and writes what it says, in one transaction. So every adapter decides alike,
and what is decided can be tested as a table.
"""
