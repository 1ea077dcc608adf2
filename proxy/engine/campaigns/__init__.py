"""Campaigns: what an operator wants moved. Planned and priced purely, then carried out segment by segment, under live traffic."""
