package web

// For the tests with a browser, which live outside of the package: they start a
// whole daemon.
var (
	NewFake   = newFake
	HandlerOf = handlerOf
)

const Token = token
