"""What makes a fork a team's own, and tells what this clone can do."""
