"""How DataSync asks: limits, tries, rests, what is known, and what a person hears of it."""
