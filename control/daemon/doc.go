// Package daemon puts the parts together: the directories that are locked, the controller,
// the listeners of the API, the page and Docker's protocol, and the watchdog. It decides
// nothing itself.
package daemon
