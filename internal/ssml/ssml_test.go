package ssml

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// wellFormed parses doc as XML and checks that only allowed elements are in it.
func wellFormed(t require.TestingT, doc string) {
	dec := xml.NewDecoder(strings.NewReader(doc))
	depth, roots := 0, 0
	for {
		tk, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, doc)
		switch e := tk.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
				require.Equal(t, "speak", e.Name.Local, doc)
			} else {
				_, ok := allowed[e.Name.Local]
				require.True(t, ok, "%s in %s", e.Name.Local, doc)
			}
			if e.Name.Local == "break" {
				for _, a := range e.Attr {
					if a.Name.Local == "time" {
						d, ok := parsePause(a.Value)
						require.True(t, ok)
						require.LessOrEqual(t, d, maxPause, doc)
					}
				}
			}
			depth++
		case xml.EndElement:
			depth--
		}
	}
	require.Equal(t, 1, roots, doc)
	require.Zero(t, depth, doc)
}

// TestForeignMarkupIsHarmless has what callers or variables could bring into an
// agent's words.
func TestForeignMarkupIsHarmless(t *testing.T) {
	for _, in := range []string{
		`</speak><audio src="https://evil.example/x.mp3"/>`,
		`<speak>one</speak><speak>two</speak>`,
		`<break time="9999s"/>`,
		`<break time='9999999999999999999s'/>`,
		`<break time="-5s"/>`,
		`<break time="NaN"/>`,
		strings.Repeat(`<break time="10s"/>`, 100),
		`<prosody rate="0.0001%" volume="+999dB">loud</prosody>`,
		`<prosody rate="slow" onload="x">a</prosody>`,
		`<prosody><prosody></prosody>`,
		strings.Repeat(`<prosody rate="slow">`, 500) + "deep",
		`<say-as interpret-as="cardinal"><say-as>12</p></say-as>`,
		`<say-as interpret-as='x" y="z'>1</say-as>`,
		`<sub alias="&quot;/><audio src=x/>">W3C</sub>`,
		`<phoneme alphabet="ipa" ph="təˈmeɪtoʊ">tomato</phoneme>`,
		`<mark name="here"/><lexicon uri="https://evil.example/l.pls"/>text`,
		`<amazon:effect name="whispered">secret</amazon:effect>`,
		`<mstts:express-as style="cheerful">hi</mstts:express-as>`,
		`<voice name="Ivy">Hello <emphasis level="strong">you</voice></emphasis>`,
		`<p><s>one<p>two</p></s></p></p>`,
		`<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]>&y;`,
		`<!ENTITY a "b"><?php exit ?><!-- <audio src="x"/> -->done`,
		`<![CDATA[<audio src="x"/>]]>`,
		"a < b && c > d",
		"<3 hearts <<< and >>>",
		`&lt;audio src="x"&gt; &#60;audio/&#62; &amp;lt;b&amp;gt; &nosuch; &`,
		"\x00\x01\x1b[31mred\x7f\xff\xfe\u202eevil",
		`<audio src="https://x.example/a.mp3">fallback <break time="1s"/></audio>after`,
		`<audio src="unclosed">kept`,
		`<script>alert(1)</script><style>p{}</style>ok`,
		`<a href="javascript:x">link</a><img src=x onerror=y>`,
		`<break time="1s"`,
		`<prosody rate="slow`,
		strings.Repeat("long ", 5000),
	} {
		out, _ := Speech(in)
		wellFormed(t, out)
		require.NotContains(t, out, "<audio")
		require.LessOrEqual(t, utf8.RuneCountInString(strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(out)), 5000+3000)
		reduced := Reduce(in)
		require.LessOrEqual(t, utf8.RuneCountInString(reduced), maxText)
		require.NotContains(t, reduced, "\x00")
	}
}

func TestSpeech(t *testing.T) {
	tests := []struct {
		in, out string
		marked  bool
	}{
		{"Hello", "<speak>Hello</speak>", false},
		{"Acme &amp; Sons", "<speak>Acme &amp; Sons</speak>", false},
		{"Acme & Sons, a < b", "<speak>Acme &amp; Sons, a &lt; b</speak>", false},
		{`<speak>Hi<break time="500ms"/>you</speak>`, `<speak>Hi<break time="500ms"/>you</speak>`, true},
		{`wait<break time="60s"/>`, `<speak>wait<break time="10000ms"/></speak>`, true},
		{`wait<break/>now`, `<speak>wait<break strength="medium"/>now</speak>`, true},
		{`<BREAK time="1.5S" />`, `<speak><break time="1500ms"/></speak>`, true},
		{`<voice name="Ivy">Welcome to <emphasis level="strong">Acme</emphasis>.</voice>`, `<speak>Welcome to <emphasis level="strong">Acme</emphasis>.</speak>`, true},
		{`<prosody rate="slow">open`, `<speak><prosody rate="slow">open</prosody></speak>`, true},
		{`<prosody rate="slow"><s>x</prosody>`, `<speak><prosody rate="slow">x</prosody></speak>`, true},
		{`<prosody>none</prosody>`, `<speak>none</speak>`, false},
		{`<say-as interpret-as="digits">1234</say-as>`, `<speak><say-as interpret-as="digits">1234</say-as></speak>`, true},
		{`<say-as>1</say-as>`, `<speak>1</speak>`, false},
		{`<sub alias="World Wide Web">W3</sub>`, `<speak><sub alias="World Wide Web">W3</sub></speak>`, true},
		{`Say it. <audio src="https://cdn.example.com/tick.wav"/> Visit 1.`, `<speak>Say it.  Visit 1.</speak>`, false},
		{`Event {last_event.type}.`, `<speak>Event .</speak>`, false},
		{`<p><s>One.</s><s>Two.</s></p>`, `<speak><p><s>One.</s><s>Two.</s></p></speak>`, true},
	}
	for _, tt := range tests {
		out, marked := Speech(tt.in)
		require.Equal(t, tt.out, out, tt.in)
		require.Equal(t, tt.marked, marked, tt.in)
	}
}

func TestReduce(t *testing.T) {
	tests := []struct{ in, out string }{
		{"Acme &amp; Sons", "Acme & Sons"},
		{"AT&T, R&D; x", "AT&T, R&D; x"},
		{`Welcome.<break time="500ms"/> Hello caller.`, "Welcome. Hello caller."},
		{`One<break time="300ms"/>two<break time="2s"/>three`, "One, two. three"},
		{`One<break strength="none"/>two`, "Onetwo"},
		{`Ask the <sub alias="World Wide Web Consortium">W3C</sub> now`, "Ask the World Wide Web Consortium now"},
		{`Your code is <say-as interpret-as="characters">A12</say-as>.`, "Your code is A 1 2."},
		{`<p>One</p><p>Two.</p>`, "One. Two."},
		{`Say it. <audio src="https://x.example/t.wav"/> Visit 1.`, "Say it. Visit 1."},
		{`Hello {caller_name}, hi`, "Hello, hi"},
		{`a < b and c > d`, "a < b and c > d"},
		{`  spaces
	and lines `, "spaces and lines"},
		{`<break time="1s"/>Start`, "Start"},
		{``, ``},
		{`<voice name="Ivy"></voice>`, ``},
		{`...`, ``},
	}
	for _, tt := range tests {
		require.Equal(t, tt.out, Reduce(tt.in), tt.in)
	}
}

func TestPlain(t *testing.T) {
	tests := []struct{ in, out string }{
		{"Hello **world**, this is *important* and __under__ _lined_.", "Hello world, this is important and under lined."},
		{"# Title\n\nSome text", "Title. Some text"},
		{"Choose:\n- Billing\n- Sales\n* Support", "Choose: Billing. Sales. Support"},
		{"1. First\n2. Second", "1, First. 2, Second"},
		{"See [our page](https://example.com/a_b) or https://example.com/x?y=1.", "See our page or."},
		{"Visit www.example.com, please", "Visit, please"},
		{"Great 🎉👍🏽! 👨‍👩‍👧 Flags 🇩🇪 and 1️⃣", "Great! Flags and 1"},
		{"Run:\n```go\nfmt.Println(1)\n```\nDone", "Run: Done"},
		{"Press `1` now", "Press 1 now"},
		{"Hi {name}, order {{order.id}} is {status}", "Hi, order is"},
		{"2 * 3 * 4 and snake_case_name", "2 * 3 * 4 and snake_case_name"},
		{"a < b & c &gt; d", "a < b & c > d"},
		{"~~old~~ new", "old new"},
		{"> quoted\n---\nmore", "quoted. more"},
		{"| A | B |\n|---|---|\n| 1 | 2 |", "A, B. 1, 2"},
		{"Chat line one for caller\nline two", "Chat line one for caller. line two"},
		{"![logo](https://x.example/l.png)Welcome<br>back", "Welcome. back"},
		{"Cost: $5.50 (see [1])", "Cost: $5.50 (see)"},
		{"<b>Bold</b> &amp; <i>fine</i>", "Bold & fine"},
		{"Escaped \\*star\\*", "Escaped *star*"},
		{"", ""},
		{"👍", ""},
		{"***\n", ""},
		{"Is it?\nYes!", "Is it? Yes!"},
		{"about .5 percent , yes .", "about .5 percent, yes."},
	}
	for _, tt := range tests {
		require.Equal(t, tt.out, Plain(tt.in), tt.in)
	}
}

func TestSentences(t *testing.T) {
	tests := []struct {
		in  string
		out []string
	}{
		{"One. Two! Three?", []string{"One.", "Two!", "Three?"}},
		{"Dr. Smith pays 3.50 a month. Fine.", []string{"Dr. Smith pays 3.50 a month.", "Fine."}},
		{"We open at 9 a.m. on Monday. Bye", []string{"We open at 9 a.m. on Monday.", "Bye"}},
		{"We close at 5 p.m. Call again.", []string{"We close at 5 p.m.", "Call again."}},
		{"He said \"stop.\" Then left.", []string{"He said \"stop.\"", "Then left."}},
		{"Wait... what? Really?!", []string{"Wait...", "what?", "Really?!"}},
		{"J. R. Tolkien wrote it.", []string{"J. R. Tolkien wrote it."}},
		{"Das kostet z.B. 3 Euro. Gut.", []string{"Das kostet z.B. 3 Euro.", "Gut."}},
		{"Am 3. Mai. Ende", []string{"Am 3.", "Mai.", "Ende"}},
		{"visit example.com today", []string{"visit example.com today"}},
		{"第一句。第二句！", []string{"第一句。", "第二句！"}},
		{"line one\nline two", []string{"line one", "line two"}},
		{"It is I. Me.", []string{"It is I.", "Me."}},
		{"", nil},
		{"   ", nil},
	}
	for _, tt := range tests {
		require.Equal(t, tt.out, Sentences(tt.in), tt.in)
	}
	long := strings.Repeat("word and more, ", 100)
	for _, s := range Sentences(long) {
		require.LessOrEqual(t, utf8.RuneCountInString(s), maxSentence)
		require.True(t, strings.HasSuffix(s, ","), s)
	}
	require.Len(t, Sentences(strings.Repeat("x", 1000)), 4)
}

func squeeze(s string) string { return strings.Join(strings.Fields(clean(s)), "") }

func TestSentencesLoseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.String().Draw(t, "in")
		out := Sentences(in)
		for _, s := range out {
			require.LessOrEqual(t, utf8.RuneCountInString(s), maxSentence)
			require.NotEmpty(t, s)
		}
		require.Equal(t, squeeze(in), squeeze(strings.Join(out, " ")))
	})
}

func FuzzSpeech(f *testing.F) {
	f.Add(`<voice name="Ivy">Hi <break time="1s"/>`)
	f.Add(`</speak><audio src='x'/>&#0;&#xD800;<a b=c d='e' /`)
	f.Add("**bold** [x](y) `c` {v} 🎉 <3")
	f.Fuzz(func(t *testing.T, in string) {
		out, _ := Speech(in)
		wellFormed(t, out)
		for _, s := range []string{Reduce(in), Plain(in)} {
			require.True(t, utf8.ValidString(s))
			require.LessOrEqual(t, utf8.RuneCountInString(s), maxText)
			require.Equal(t, -1, strings.IndexFunc(s, forbidden))
			for _, x := range Sentences(s) {
				require.LessOrEqual(t, utf8.RuneCountInString(x), maxSentence)
			}
		}
	})
}
