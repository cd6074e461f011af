// Package directory says who has which port, address, name, runtime ID and network. A
// Directory never changes: whoever reads one holds no lock and sees one state of things.
// Live has the newest and makes the next from it by a delta, which shares what stays.
package directory
