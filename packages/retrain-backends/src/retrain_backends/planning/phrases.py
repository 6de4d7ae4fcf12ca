"""The built-in phrases of the `semantic` detector."""

from typing import Final

PLANNING_PHRASES: Final = (
    # approach
    "let me think about how to approach this problem",
    "the plan is to split the problem into cases",
    "to solve this, we should break it into smaller parts",
    "first I need to understand what is being asked",
    "first we need to find this, and then we can find that",
    "before computing anything, look at the structure",
    # insight
    "the key idea is to look at it differently",
    "notice that there is a pattern here",
    "we can use the fact that the problem gives us",
    "it would be easier to work backwards",
    # alternatives
    "let us try another approach",
    "what if we use a different method",
    "alternatively, we could also solve this another way",
    # doubt and verification
    "wait, something is wrong here",
    "but the problem says something else",
    "on second thought, that does not work",
    "go back and start over",
    "let me check whether this is right",
    "let me verify the result before I answer",
)

EXECUTION_PHRASES: Final = (
    "substitute x = 2 into the equation",
    "expanding the left side gives",
    "this simplifies to",
    "factor out x from both terms",
    "multiply both sides by 2",
    "dividing both sides by 3 yields",
    "solving for x gives x = 7",
    "the derivative of x squared is 2x",
    "3 plus 5 equals 8",
    "6 times 7 is 42",
    "the sum is equal to 15",
    "we write 4 and carry the 1",
    "there are 12 of them in each box",
    "therefore the area is 12",
    "the total cost is 30 dollars",
    "so the answer is 42",
)
