// Package others reads what other software of the host has set up that packets meet beside
// the switch: rules of policy routing, chains of firewalls, MTUs of routes, and whose the
// sockets of the host are. It changes nothing.
package others
