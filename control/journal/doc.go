// Package journal keeps the last entries of a stream for readers who come and go.
package journal
