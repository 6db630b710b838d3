package target

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func policy() Policy {
	return Policy{
		Directory: map[string][]string{
			"support": {"sip:queue7@sbc.example.com;transport=tls", "+1 (415) 555-0111"},
			"Police":  {"119"},
			"empty":   {},
			"EMPTY":   {"sip:upper@pbx.example.com"},
		},
		Allow: []string{
			"+14155550199", "1???", "2*", "+1415*", "+1900*", "+44*", "+49*", "+1876*", "9??", "1??", "+19005550123",
			"sip:*@agents.example.com", "sip:7???@pbx.example.com:5080", "sip:*@*.desk.example.com",
			"sips:vip@secure.example.com", "sip:loop@192.0.2.5", "sip:*@192.0.2.5", "sip:*@127.0.0.1",
			"sip:*@198.51.100.7", "sip:*@[2001:db8::7]",
		},
		Countries: []string{"US", "DE"},
		Region:    "US",
		Numbers:   []string{"+14155550100"},
		Addresses: []string{"192.0.2.5:5060", "0.0.0.0:5060", "bridge.agents.example.com"},
		Host:      "sip.carrier.example.com",
		Timeout:   30 * time.Second,
	}
}

func TestPolicyOf(t *testing.T) {
	const carrier = "@sip.carrier.example.com"
	tests := []struct {
		payload string
		want    string // URI, or the reason of a refusal
	}{
		// What a flow may say.
		{`"support"`, "sip:queue7@sbc.example.com;transport=tls sip:+14155550111" + carrier},
		{`"SUPPORT"`, "sip:queue7@sbc.example.com;transport=tls sip:+14155550111" + carrier},
		{`{"name": "support"}`, "sip:queue7@sbc.example.com;transport=tls sip:+14155550111" + carrier},
		{`"Police"`, "sip:119" + carrier},
		{`"+14155550111"`, "sip:+14155550111" + carrier},
		{`"sip:queue7@sbc.example.com"`, "sip:queue7@sbc.example.com"},
		{`"+14155550199"`, "sip:+14155550199" + carrier},
		{`"415-555-0199"`, "sip:+14155550199" + carrier},
		{`" (415) 555.0199 "`, "sip:+14155550199" + carrier},
		{`14155550199`, "sip:+14155550199" + carrier},
		{`1.4155550199e10`, "sip:+14155550199" + carrier},
		{`{"number": 4155550199}`, "sip:+14155550199" + carrier},
		{`{"phone": "+14155550199"}`, "sip:+14155550199" + carrier},
		{`{"to": "+14155550199"}`, "sip:+14155550199" + carrier},
		{`{"target": "+14155550199"}`, "sip:+14155550199" + carrier},
		{`{"uri": "tel:+14155550199;ext=5"}`, "sip:+14155550199" + carrier},
		{`{"addressType": "phone", "address": "+14155550199", "callerIDPassthrough": true}`, "sip:+14155550199" + carrier},
		{`{"NUMBER": "", "Phone": null, "to": "+14155550199"}`, "sip:+14155550199" + carrier},
		{`{"name": "Alice", "number": "+14155550199"}`, "sip:+14155550199" + carrier},
		{`"{\"number\": \"+14155550199\"}"`, "sip:+14155550199" + carrier},
		{`"{'number': '+14155550199'}"`, "sip:+14155550199" + carrier},
		{`"\n {'number': '+14155550199', 'uui': 'it\\'s \"x\"'}\n"`, "sip:+14155550199" + carrier},
		{`"\"+14155550199\""`, "sip:+14155550199" + carrier},
		{`"1234"`, "sip:1234" + carrier},
		{`1234`, "sip:1234" + carrier},
		{`"200"`, "sip:200" + carrier},
		{`"+14155550177"`, "sip:+14155550177" + carrier},
		{`"+4930123456"`, "sip:+4930123456" + carrier},
		{`"011 49 30 123456"`, "sip:+4930123456" + carrier},
		{`"+19005550123"`, "sip:+19005550123" + carrier},
		{`"sip:anna@agents.example.com"`, "sip:anna@agents.example.com"},
		{`"SIP:anna@Agents.Example.COM."`, "sip:anna@agents.example.com"},
		{`"anna@agents.example.com"`, "sip:anna@agents.example.com"},
		{`"sip:anna@agents.example.com;transport=tcp;maddr=6.6.6.6"`, "sip:anna@agents.example.com"},
		{`"sip:anna@agents.example.com?Replaces=x%3Bto-tag%3D1&Subject=hi"`, "sip:anna@agents.example.com"},
		{`"sip:12345678@agents.example.com"`, "sip:12345678@agents.example.com"},
		{`"sip:7001@pbx.example.com:5080"`, "sip:7001@pbx.example.com:5080"},
		{`"sip:a@eu.desk.example.com"`, "sip:a@eu.desk.example.com"},
		{`"sips:vip@secure.example.com"`, "sips:vip@secure.example.com"},
		{`"sip:loop@192.0.2.5"`, "sip:loop@192.0.2.5"},
		{`"sip:a@198.51.100.7"`, "sip:a@198.51.100.7"},
		{`"sip:a@[2001:DB8:0::7]"`, "sip:a@[2001:db8::7]"},
		{`"sip:a@[::ffff:198.51.100.7]"`, "sip:a@198.51.100.7"},

		// Not listed.
		{`"sales"`, "not_listed"},
		{`"12345"`, "not_listed"},
		{`"+12125550100"`, "not_listed"},
		{`"+33142685300"`, "not_listed"},
		{`"sip:anna@evil.example.com"`, "not_listed"},
		{`"sip:anna@agents.example.com.evil.example.com"`, "not_listed"},
		{`"sip:anna@desk.example.com"`, "not_listed"},
		{`"sip:a@evildesk.example.com"`, "not_listed"},
		{`"sips:anna@agents.example.com"`, "not_listed"},
		{`"sip:anna@agents.example.com:5060"`, "not_listed"},
		{`"sip:anna@agents.example.com:22"`, "not_listed"},
		{`"sip:7001@pbx.example.com"`, "not_listed"},
		{`"sip:8001@pbx.example.com:5080"`, "not_listed"},
		{`"sip:agents.example.com"`, "not_listed"},
		{`"sip:queue8@sbc.example.com"`, "not_listed"},
		{`"empty"`, "not_listed"},
		{`"EMPTY"`, "sip:upper@pbx.example.com"},
		{`"Empty"`, "sip:upper@pbx.example.com"},
		{`"http://agents.example.com"`, "not_listed"},

		// Dangerous: an exact entry or nothing.
		{`"+19005551234"`, "premium"},
		{`"1-900-555-1234"`, "premium"},
		{`"sip:19005551234@agents.example.com"`, "premium"},
		{`"sip:1-900-555-1234@agents.example.com"`, "premium"},
		{`"sip:919005551234@agents.example.com"`, "malformed"},
		{`"sip:0119011441234567890@agents.example.com"`, "malformed"},
		{`"sip:01144-20-7946-0000@agents.example.com"`, "country"},
		{`"+449012345678"`, "premium"},
		{`"911"`, "emergency"},
		{`911`, "emergency"},
		{`"112"`, "emergency"},
		{`"110"`, "emergency"},
		{`"sip:911@agents.example.com"`, "emergency"},
		{`"sip:9911@agents.example.com"`, "emergency"},
		{`"+14155550100"`, "own"},
		{`"4155550100"`, "own"},
		{`"sip:4155550100@agents.example.com"`, "own"},
		{`"sip:x@192.0.2.5"`, "own"},
		{`"sip:x@127.0.0.1"`, "own"},
		{`"sip:x@bridge.agents.example.com"`, "own"},
		{`"+442079460000"`, "country"},
		{`"+18765550100"`, "country"},
		{`"sip:+442079460000@agents.example.com"`, "country"},

		// Control characters anywhere, also hidden.
		{`"+14155550199\r\nX-Evil: 1"`, "control"},
		{`"+14155550199\u0000"`, "control"},
		{`"sip:anna@agents.example.com\nRoute: <sip:evil>"`, "control"},
		{`{"number": "+14155550199", "uui": "a\r\nb"}`, "control"},
		{`{"number": "+14155550199", "extension": "1\u0007"}`, "control"},
		{`{"number": "+14155550199", "callerId": "1\t2"}`, "control"},
		{`{"number": "+14155550199", "headers": {"X-A": "1\r\nB: 2"}}`, "control"},
		{`{"number": "+14155550199", "headers": {"X-A\r\nB": "2"}}`, "control"},
		{`"support\n"`, "control"},
		{`"sup\u2028port"`, "control"},

		// Nothing that could be called.
		{``, "malformed"},
		{`null`, "malformed"},
		{`""`, "malformed"},
		{`{}`, "malformed"},
		{`[]`, "malformed"},
		{`true`, "malformed"},
		{`-14155550199`, "malformed"},
		{`1e999999999`, "malformed"},
		{`{"number": {"number": "+14155550199"}}`, "malformed"},
		{`{"number": "+14155550199"} {}`, "malformed"},
		{`"{number: +14155550199}"`, "malformed"},
		{`"{'number': '{\"number\": \"1234\"}'}"`, "not_listed"},
		{`{"number": "+14155550199", "Number": "+19005551234"}`, "malformed"},
		{`"+1415555019912345"`, "not_listed"},
		{`"+999123456789"`, "malformed"},
		{`"+1415555"`, "malformed"},
		{`"٩١١"`, "not_listed"},
		{`"+1415555019９"`, "not_listed"},
		{`"*21*+19005551234#"`, "not_listed"},
		{`"sip:%0d%0aX@agents.example.com"`, "malformed"},
		{`"sip:an%6ea%40evil@agents.example.com"`, "malformed"},
		{`"sip:anna:secret@agents.example.com"`, "malformed"},
		{`"sip:a@b@agents.example.com"`, "malformed"},
		{`"sip:+14155550199;phone-context=x@agents.example.com"`, "malformed"},
		{`"sip:x@2130706433"`, "malformed"},
		{`"sip:x@0x7f.1"`, "malformed"},
		{`"sip:x@127.1"`, "malformed"},
		{`"sip:x@agents.example.com:0"`, "malformed"},
		{`"sip:x@agents.example.com:99999"`, "malformed"},
		{`"sip:x@[::1"`, "malformed"},
		{`"sip:x@[fe80::1%25eth0]"`, "malformed"},
		{`"sip:x@agents example.com"`, "malformed"},
		{`"sip:<x@agents.example.com>"`, "malformed"},
		{`"sip:"`, "malformed"},
		{`"tel:"`, "malformed"},
		{`"tel:support"`, "malformed"},
		{`{"number": "+14155550199", "extension": "1;drop"}`, "malformed"},
		{`{"number": "+14155550199", "headers": {"Route": "<sip:evil>"}}`, "malformed"},
		{`{"number": "+14155550199", "headers": {"X-A:B": "c"}}`, "malformed"},
		{`{"number": "+14155550199", "headers": ["X-A"]}`, "malformed"},
		{`{"number": "+14155550199", "timeout": 0.001}`, "malformed"},
		{`{"number": "+14155550199", "timeout": 99999}`, "malformed"},
		{`{"number": "+14155550199", "timeout": "soon"}`, "malformed"},
		{`{"number": "+14155550199", "mode": "teleport"}`, "malformed"},
		{`{"number": "+14155550199", "callerId": "Bank"}`, "malformed"},
		{`"` + strings.Repeat("1", 300) + `"`, "malformed"},
		{`"` + strings.Repeat("x", maxPayload) + `"`, "malformed"},
	}
	p := policy()
	for _, tt := range tests {
		t.Run(tt.payload[:min(60, len(tt.payload))], func(t *testing.T) {
			targets, err := Resolve(p, json.RawMessage(tt.payload))
			if err != nil {
				refused, ok := errors.AsType[*RefusedError](err)
				require.True(t, ok)
				require.NotEmpty(t, refused.Why)
				require.Equal(t, tt.want, string(refused.Reason), refused.Why)
				require.Empty(t, targets)
				return
			}
			var uris []string
			for _, target := range targets {
				require.NotEmpty(t, target.Why)
				require.Equal(t, p.Timeout, target.Timeout)
				uris = append(uris, target.URI)
			}
			require.Equal(t, tt.want, strings.Join(uris, " "))
		})
	}
}

func TestOptionsTravelWithTheTarget(t *testing.T) {
	targets, err := Resolve(policy(), json.RawMessage(`{
		"to": "support", "extension": "w1W2p#", "headers": {"X-Ticket": "42", "x-n": 7}, "uui": "c0ffee;encoding=hex",
		"callerId": "415-555-0123", "timeout": 12.5, "mode": "Warm"}`))
	require.NoError(t, err)
	require.Len(t, targets, 2)
	require.Equal(t, Target{
		URI: "sip:+14155550111@sip.carrier.example.com", Number: "+14155550111", Display: "support",
		Extension: "w1W2p#", Headers: map[string]string{"X-Ticket": "42", "x-n": "7"}, UUI: "c0ffee;encoding=hex",
		CallerID: "+14155550123", Timeout: 12500 * time.Millisecond, Mode: ModeAttended, Why: "directory support",
	}, targets[1])
	require.Empty(t, targets[0].Number)
}

func TestEntriesOfTheConfigurationNeedNoPermission(t *testing.T) {
	for text, want := range map[string]string{
		"support":                        "sip:queue7@sbc.example.com;transport=tls",
		"911":                            "sip:911@sip.carrier.example.com",
		"sip:help@[2001:db8::1]:5080;lr": "sip:help@[2001:db8::1]:5080;lr",
		"sip:a%40b+c@pbx.example.com":    "sip:a%40b+c@pbx.example.com",
	} {
		targets, err := policy().Entry(text)
		require.NoError(t, err)
		require.Equal(t, want, targets[0].URI)
		require.Equal(t, 30*time.Second, targets[0].Timeout)
	}
	_, err := policy().Entry("nobody")
	require.ErrorContains(t, err, "cannot be called")
}

func TestWhyNamesTheEntry(t *testing.T) {
	for payload, want := range map[string]string{
		`"+14155550199"`: "allowed as +14155550199",
		`"1234"`:         "allowed by 1???",
		`"support"`:      "directory support",
	} {
		targets, err := Resolve(policy(), json.RawMessage(payload))
		require.NoError(t, err)
		require.Equal(t, want, targets[0].Why)
	}
}

func TestRefusalsExplainAndKeepNumbersOut(t *testing.T) {
	_, err := Resolve(policy(), json.RawMessage(`"+19005551234"`))
	require.EqualError(t, err, "hand-over refused: the target is a premium number: write it out in dial.allow or dial.directory to allow it")
	_, err = Resolve(policy(), json.RawMessage(`"+442079460000"`))
	require.EqualError(t, err, "hand-over refused: the target's country GB is not listed in dial.countries: add it, or write it out in dial.allow or dial.directory to allow it")
}

func TestWithoutCountriesTheRegionIsListed(t *testing.T) {
	p := policy()
	p.Countries = nil
	_, err := Resolve(p, json.RawMessage(`"+14155550177"`))
	require.NoError(t, err)
	_, err = Resolve(p, json.RawMessage(`"+4930123456"`))
	require.ErrorContains(t, err, "DE is not listed")
}

func TestWithoutHostNumbersAreTelURIs(t *testing.T) {
	p := policy()
	p.Host = ""
	targets, err := Resolve(p, json.RawMessage(`"+14155550199"`))
	require.NoError(t, err)
	require.Equal(t, "tel:+14155550199", targets[0].URI)
}

func TestWithoutRegionNumbersStayAsDialled(t *testing.T) {
	p := Policy{Allow: []string{"0???????", "+4930123456"}, Host: "pbx"}
	targets, err := Resolve(p, json.RawMessage(`"0301234 5"`))
	require.NoError(t, err)
	require.Equal(t, "sip:03012345@pbx", targets[0].URI)
	targets, err = Resolve(p, json.RawMessage(`"+49 30 123456"`))
	require.NoError(t, err)
	require.Equal(t, "+4930123456", targets[0].Number)
}

func TestCheckExplainsEntries(t *testing.T) {
	for entry, want := range map[string]string{
		"+14155550111": "", "1???": "", "*": "", "sip:*@agents.example.com": "", "sip:a@*.example.com": "",
		"sip:a?@10.0.0.1:5080": "", "sip:desk@pbx;transport=tcp": "", "desk@pbx": "",
		"sip:*@*":             "anybody could be called otherwise",
		"sip:*@*.com":         "top level domain",
		"sip:*":               "it has no @",
		"*@example.com":       "has no scheme",
		"sip:*@a.com;x=y":     "are not matched",
		"sip:a b*@a.com":      "its user has characters",
		"12ab?":               "no pattern of a number",
		"nobody":              "neither a number nor a SIP URI",
		"sip:a@0x7f.1":        "neither a domain name nor an IP address",
		"sip:*@x\r\n.a.com":   "control character",
		"sip:a@x.com;a=\"b\"": "must be escaped",
	} {
		err := Check(entry)
		if want == "" {
			require.NoError(t, err, entry)
			continue
		}
		require.ErrorContains(t, err, want, entry)
	}
}

func FuzzResolve(f *testing.F) {
	for _, seed := range []string{
		`"support"`, `{"number": "+14155550199", "headers": {"X-A": "b"}, "timeout": 5, "mode": "warm"}`, `"{'to': '1234'}"`,
		`1.4155550199e10`, `"sip:a%0d@agents.example.com;x?y"`, `"sip:a@[::1]:5060"`, `"\"1\""`,
	} {
		f.Add(seed)
	}
	p := policy()
	f.Fuzz(func(t *testing.T, payload string) {
		targets, err := Resolve(p, json.RawMessage(payload))
		if err != nil {
			if _, ok := errors.AsType[*RefusedError](err); !ok {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		for _, target := range targets {
			for _, text := range []string{target.URI, target.UUI, target.Extension, target.CallerID, target.Number} {
				if strings.ContainsFunc(text, isControl) {
					t.Fatalf("%q reaches the wire", text)
				}
			}
			if strings.ContainsAny(target.URI, " <>\"?") {
				t.Fatalf("%q is no URI", target.URI)
			}
		}
	})
}
