"""What is deployed: functions and their versions, and the code they run."""
