// Package reasons says of each drop reason what it means and what changes it, for people.
package reasons
