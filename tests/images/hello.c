/* Prints "hello" and ends: the smallest command an image can hold. */
#include <stdio.h>

int main(void)
{
    return puts("hello") < 0;
}
