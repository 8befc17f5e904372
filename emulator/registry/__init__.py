"""What is deployed: functions, their versions, their code."""
