package api

import "net/url"

// Page says where the page of the daemon is: GET /v1/page.
type Page struct {
	URL string `json:"url"`
	// Token is what its clients have to show; empty: nobody has to.
	Token string `json:"token,omitempty"`
}

// Link opens the page in a browser. The token is behind #, which a browser sends to
// nobody.
func (p Page) Link() string {
	if p.Token == "" {
		return p.URL
	}
	return p.URL + "#token=" + url.QueryEscape(p.Token)
}
