"""Clients of other languages: programs that do what their SDK's users do, each with its defaults."""
