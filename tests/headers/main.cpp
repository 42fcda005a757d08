// The program into which every public header is linked twice: it only has to link.
int main() {}
