/* Prints its arguments and its environment, one line each: "arg ..." and "env ...". With a first
 * argument "cat" it copies its input to its output instead, so that stdin can be tested without a
 * shell. */
#include <stdio.h>
#include <string.h>

extern char **environ;

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "cat") == 0) {
        for (int c; (c = getchar()) != EOF;)
            putchar(c);
        return 0;
    }
    for (int i = 0; i < argc; i++)
        printf("arg %s\n", argv[i]);
    for (char **e = environ; *e; e++)
        printf("env %s\n", *e);
    return 0;
}
