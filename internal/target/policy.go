package target

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/nyaruka/phonenumbers"
)

// A number is a telephone number in the forms that rules look at.
type number struct {
	dialled string // digits, with + where it was written
	e164    string // with +; empty where it is too short for that
	local   string // digits behind the country code; empty where there is no e164
	region  string // ISO 3166-1; 001 for numbers of no country; empty where there is no e164
	premium bool
}

// dial returns the form that is sent.
func (n number) dial() string {
	if n.e164 != "" {
		return n.e164
	}
	return n.dialled
}

// bare strips the marks that people write into numbers. It returns nothing when
// something else than 3 to 15 ASCII digits and a leading + is left.
func bare(text string) string {
	s := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -.()/", r) {
			return -1
		}
		return r
	}, text)
	d := strings.TrimPrefix(s, "+")
	if len(d) < 3 || len(d) > 15 || strings.Trim(d, "0123456789") != "" {
		return ""
	}
	return s
}

// number normalises a text that looks like a telephone number. Those that are
// too short for the region stay as dialled; what is neither is no number.
func (p Policy) number(text string) (number, bool) {
	n := number{dialled: bare(text)}
	if n.dialled == "" {
		return n, false
	}
	international := strings.HasPrefix(n.dialled, "+")
	region := strings.ToUpper(p.Region)
	if !international && region == "" {
		return n, true
	}
	parsed, err := phonenumbers.Parse(n.dialled, region)
	if err != nil {
		return n, !international && len(n.dialled) <= maxShort
	}
	switch phonenumbers.IsPossibleNumberWithReason(parsed) {
	case phonenumbers.IS_POSSIBLE:
	case phonenumbers.TOO_SHORT, phonenumbers.IS_POSSIBLE_LOCAL_ONLY, phonenumbers.INVALID_LENGTH:
		return n, !international
	default:
		return n, false
	}
	n.e164 = phonenumbers.Format(parsed, phonenumbers.E164)
	n.local = phonenumbers.GetNationalSignificantNumber(parsed)
	n.region = phonenumbers.GetRegionCodeForNumber(parsed)
	if n.region == "" || n.region == "ZZ" {
		n.region = phonenumbers.GetRegionCodeForCountryCode(int(parsed.GetCountryCode()))
	}
	kind := phonenumbers.GetNumberType(parsed)
	n.premium = kind == phonenumbers.PREMIUM_RATE || kind == phonenumbers.SHARED_COST
	return n, true
}

// maxShort is the length up to which digits that are no number of the region are
// taken for an extension.
const maxShort = 8

// emergency reports whether dialling the number reaches an emergency service
// from the trunk's region or a listed country, also behind the digit that PBXs
// want for an outside line.
func (p Policy) emergency(n number) bool {
	digits := strings.TrimPrefix(n.dialled, "+")
	for _, d := range []string{digits, strings.TrimPrefix(digits, "9"), strings.TrimPrefix(digits, "0"), n.local} {
		if slices.Contains(emergencyNumbers, d) {
			return true
		}
		for _, region := range append([]string{p.Region}, p.Countries...) {
			if region != "" && phonenumbers.IsEmergencyNumber(d, strings.ToUpper(region)) {
				return true
			}
		}
	}
	return false
}

// Those that mobile networks route from anywhere (3GPP TS 22.101 section 10.1),
// and the ones of the largest countries.
var emergencyNumbers = []string{"112", "911", "999", "000", "110", "118", "119"}

// named finds a directory entry: by its exact name, else the first in order that
// differs by case alone.
func (p Policy) named(text string) (name string, entries []string, ok bool) {
	if entries, ok = p.Directory[text]; ok {
		return text, entries, true
	}
	for _, name = range slices.Sorted(maps.Keys(p.Directory)) {
		if strings.EqualFold(name, text) {
			return name, p.Directory[name], true
		}
	}
	return "", nil, false
}

// allowed returns the entry that lets an address through.
func (p Policy) allowed(a address) (string, error) {
	var exact, matched string
	for _, entry := range p.entries() {
		pattern, err := compile(entry)
		if err != nil {
			continue // Check reports it when the configuration is read
		}
		switch {
		case pattern.exact && p.same(pattern.address, a):
			exact = entry
		case !pattern.exact && matched == "" && pattern.matches(p, a):
			matched = entry
		}
	}
	if exact != "" {
		return "allowed as " + exact, nil
	}
	if err := p.dangerous(a, matched != ""); err != nil {
		return "", err
	}
	if matched == "" {
		return "", refuse(ReasonUnlisted, a.text(), "the target is neither in dial.directory nor matched by dial.allow: add it there")
	}
	return "allowed by " + matched, nil
}

// entries returns all that the configuration names: a flow may write out the
// target of a directory name.
func (p Policy) entries() []string {
	out := slices.Clone(p.Allow)
	for _, targets := range p.Directory {
		for _, t := range targets {
			if !strings.ContainsAny(t, "?*") {
				out = append(out, t)
			}
		}
	}
	return out
}

// dangerous refuses what needs an exact entry, also behind the user part of a
// URI: a gateway would dial it.
func (p Policy) dangerous(a address, matched bool) error {
	const exact = "write it out in dial.allow or dial.directory to allow it"
	if a.host != "" && p.ownAddress(a) {
		return refuse(ReasonOwn, a.text(), "the target is an address of this bridge: %s", exact)
	}
	n, ok := p.number(a.user)
	if !ok {
		switch {
		case a.host == "":
			return refuse(ReasonMalformed, a.text(), "the target is no number that can be dialled")
		case matched && unjudged(a.user):
			// An access code before a number, which a gateway would take off.
			return refuse(ReasonMalformed, a.text(), "the user of the SIP URI looks like a telephone number that is none: %s", exact)
		}
		return nil
	}
	switch {
	case p.emergency(n):
		return refuse(ReasonEmergency, a.text(), "the target is an emergency number: %s", exact)
	case n.premium:
		return refuse(ReasonPremium, a.text(), "the target is a premium number: %s", exact)
	case slices.ContainsFunc(p.Numbers, func(own string) bool { return p.sameNumber(own, n) }):
		return refuse(ReasonOwn, a.text(), "the target is a number of this bridge: %s", exact)
	case matched && n.e164 != "" && !p.listed(n.region):
		return refuse(ReasonCountry, a.text(), "the target's country %s is not listed in dial.countries: add it, or %s", n.region, exact)
	}
	return nil
}

// unjudged reports whether a user part consists of more digits than an extension
// has.
func unjudged(user string) bool {
	digits := 0
	for _, r := range user {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case !strings.ContainsRune("+-.", r):
			return false
		}
	}
	return digits > maxShort
}

// listed reports whether patterns may reach a country.
func (p Policy) listed(region string) bool {
	if len(p.Countries) == 0 {
		return strings.EqualFold(region, p.Region)
	}
	return slices.ContainsFunc(p.Countries, func(c string) bool { return strings.EqualFold(c, region) })
}

// same reports whether two addresses are the same far end. Ports are equal only
// where both have one.
func (p Policy) same(entry, a address) bool {
	if entry.host != "" || a.host != "" {
		return entry.scheme == a.scheme && entry.user == a.user && entry.host == a.host && entry.port == a.port
	}
	n, ok := p.number(a.user)
	if !ok {
		n = number{dialled: bare(a.user)}
	}
	return p.sameNumber(entry.user, n)
}

func (p Policy) sameNumber(text string, n number) bool {
	m, ok := p.number(text)
	if !ok {
		return bare(text) != "" && bare(text) == n.dialled
	}
	return m.dial() == n.dial()
}

// ownAddress reports whether a URI leads back to this bridge. A bridge that
// listens on every address is found at loopback and unspecified ones too.
func (p Policy) ownAddress(a address) bool {
	port := a.port
	if port == 0 {
		port = defaultPort(a.scheme)
	}
	for _, own := range p.Addresses {
		host, ownPort, err := splitHost(bracketed(own))
		if err != nil {
			continue
		}
		if ownPort == 0 {
			ownPort = defaultPort(a.scheme)
		}
		if ownPort == port && (host == a.host || isUnspecified(host) && isHere(a.host)) {
			return true
		}
	}
	return false
}

func defaultPort(scheme string) uint16 {
	if scheme == "sips" {
		return 5061
	}
	return 5060
}

// bracketed writes a bare IPv6 address as a URI has it.
func bracketed(s string) string {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Is6() {
		return "[" + s + "]"
	}
	return s
}

func isUnspecified(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsUnspecified()
}

func isHere(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && (addr.IsLoopback() || addr.IsUnspecified())
}

// text returns the address as it is quoted in refusals.
func (a address) text() string {
	if a.host == "" {
		return a.user
	}
	return a.String()
}

// regions is the set of countries that the metadata know.
var regions = sync.OnceValue(phonenumbers.GetSupportedRegions)

// CheckRegion explains what is wrong with a country's code.
func CheckRegion(code string) error {
	if !regions()[code] {
		return fmt.Errorf("%q is no country, write its ISO 3166-1 code, such as US or DE", code)
	}
	return nil
}
