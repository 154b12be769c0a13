"""The commands by which a team makes a fork its own, examines it and upgrades it."""
