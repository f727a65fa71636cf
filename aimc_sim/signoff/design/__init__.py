"""What a sign-off asks: plans, how they are written in files, margins, how many chips and questions it takes."""
