// Package web serves the page: one document with its scripts and styles, embedded,
// the live state behind it, the reading half of the API, and the metrics. It only
// ever reads: no request to it changes anything.
//
// Who may ask is decided in gate.go, before anything else looks at a request;
// docs/page.md has the reasons.
package web
