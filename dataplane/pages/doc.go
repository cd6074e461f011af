// Package pages is memory for large tables beside the Go heap, so that the garbage
// collector does not let as much garbage gather as the tables take. Behind its first
// 2 MiB it is of huge pages where the kernel has them: a lookup among a million flows
// would wait for page tables too. Under the race detector, which sees the Go heap only,
// it is the Go heap.
package pages
