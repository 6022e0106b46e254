using System.Globalization;
using System.Text;

namespace PciOperator.Core;

/// <summary>
/// Writes a regular expression of Python's (re, version 3.11, of text) as one of .NET's that matches the same ASCII texts. What
/// Python takes for no expression is none here either, also where .NET would take it for one of its own.
/// </summary>
internal sealed class PythonExpression
{
    private const string Places = "AbBZ";
    private const string Classes = "dDsSwW";
    private const string Controls = "afnrtv";
    private const long Endless = uint.MaxValue;
    private readonly string _text;
    private readonly StringBuilder _result = new();
    private readonly List<Group> _groups = [new Group("", new Item(0, 0))];
    private readonly List<int> _asked = [];
    private int _at;
    private bool _verbose;

    // Groups from here on are of the look-behind that is being read; int.MaxValue: none is.
    private int _behind = int.MaxValue;

    private PythonExpression(string text) => _text = text;

    /// <summary>The expression as .NET spells it.</summary>
    /// <exception cref="ArgumentException">It is none of Python's.</exception>
    public static string Translate(string text)
    {
        var parser = new PythonExpression(text);
        parser.ReadAlternatives(isStart: true);
        if (parser._at < text.Length)
            throw Wrong("a closing parenthesis has no opening one");
        if (parser._asked.Exists(number => number >= parser._groups.Count))
            throw Wrong("a condition asks for a group that isn't there");
        return parser._result.ToString();
    }

    private bool IsAtEnd => _at >= _text.Length;

    private ReadOnlySpan<char> Rest => _text.AsSpan(_at);

    private static ArgumentException Wrong(string what) => new(what);

    /// <summary>Branches up to a closing parenthesis or the end.</summary>
    /// <param name="isStart">Flags for all of the expression may stand here.</param>
    private Item ReadAlternatives(bool isStart = false)
    {
        Item all = ReadSequence(isStart);
        while (Skip("|"))
        {
            _result.Append('|');
            all = all.Or(ReadSequence(false));
        }

        return all;
    }

    private Item ReadSequence(bool isStart)
    {
        (long least, long most) = (0, 0);

        // What a quantifier here would repeat, and where that begins; null: nothing.
        (int Start, Item Item)? last = null;
        string whyNot = "nothing stands before a quantifier";
        while (!IsAtEnd && _text[_at] is not ('|' or ')'))
        {
            if (_verbose && SkipBlank())
                continue;
            if (ReadQuantifier() is var (min, max))
            {
                if (last is not var (begin, repeated))
                    throw Wrong(whyNot);
                string times = max >= Endless ? $"{{{min},}}" : $"{{{min},{max}}}";
                if (Skip("?"))
                    _result.Append(times).Append('?');
                else if (Skip("+"))
                    _result.Insert(begin, "(?>").Append(times).Append(')');
                else
                    _result.Append(times);
                least = Capped(least - repeated.Least + (repeated.Least * min));
                most = Capped(
                    most
                        - repeated.Most
                        + (repeated.Most >= Endless || (max >= Endless && repeated.Most > 0) ? Endless : repeated.Most * max)
                );
                (last, whyNot) = (null, "a quantifier follows a quantifier");
                continue;
            }

            int start = _result.Length;
            if (ReadItem(isStart) is not { } item)
                continue;
            (least, most, isStart) = (Capped(least + item.Least), Capped(most + item.Most), false);
            (last, whyNot) = (item.CanRepeat ? (start, item) : null, "a place is repeated");
        }

        return new Item(least, most);
    }

    private static long Capped(long width) => Math.Min(width, Endless);

    /// <summary>One character, set, place or group; null: something that stands for nothing (a comment, flags).</summary>
    private Item? ReadItem(bool isStart)
    {
        char c = _text[_at];
        switch (c)
        {
            case '(':
                return ReadGroup(isStart);
            case '[':
                ReadSet();
                return new Item(1, 1);
            case '.':
                _at++;
                _result.Append('.');
                return new Item(1, 1);
            case '^' or '$':
                _at++;
                _result.Append(c);
                return new Item(0, 0, CanRepeat: false);
            case '\\':
                return ReadEscape();
            default:
                AppendLiteral(ReadRune());
                return new Item(1, 1);
        }
    }

    /// <summary>*, +, ?, {n}, {n,}, {,n} or {n,m}; null when none stands here.</summary>
    private (long Min, long Max)? ReadQuantifier()
    {
        if (Skip("*"))
            return (0, Endless);
        if (Skip("+"))
            return (1, Endless);
        if (Skip("?"))
            return (0, 1);
        if (_text[_at] != '{' || Rest.StartsWith("{}"))
            return null;
        int begin = _at++;
        ReadOnlySpan<char> low = ReadDigits();
        ReadOnlySpan<char> high = low;
        if (Skip(","))
            high = ReadDigits();
        if (!Skip("}"))
        {
            _at = begin;
            return null;
        }

        long min = low.Length == 0 ? 0 : Times(low);
        long max = high.Length == 0 ? Endless : Times(high);
        return min <= max ? (min, max) : throw Wrong("the least number of times is more than the most");
    }

    // .NET counts no further than this, and no field is as long.
    private static long Times(ReadOnlySpan<char> digits) =>
        long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out long times) && times < Endless
            ? Math.Min(times, int.MaxValue)
            : throw Wrong("a number of times is too large");

    private Item? ReadGroup(bool isStart)
    {
        _at++;
        if (!Skip("?"))
            return ReadCapture("");
        if (Skip("P<"))
            return ReadCapture(ReadName('>'));
        if (Skip("P="))
            return AppendReference(NumberOf(ReadName(')')));
        if (Skip("#"))
        {
            int end = _text.IndexOf(')', _at);
            _at = end < 0 ? throw Wrong("a comment doesn't end") : end + 1;
            return null;
        }

        if (Skip(":"))
            return ReadRestOfGroup("(?:");
        if (Skip(">"))
            return ReadRestOfGroup("(?>");
        if (Skip("="))
            return ReadRestOfGroup("(?=") with { Least = 0, Most = 0 };
        if (Skip("!"))
            return ReadRestOfGroup("(?!") with { Least = 0, Most = 0 };
        if (Skip("<="))
            return ReadLookBehind("(?<=");
        if (Skip("<!"))
            return ReadLookBehind("(?<!");
        if (Skip("("))
            return ReadCondition();
        return ReadFlags(isStart);
    }

    private Item ReadCapture(string name)
    {
        int number = _groups.Count;
        if (name.Length > 0 && _groups.Exists(g => g.Name == name))
            throw Wrong($"two groups are called {Text.Shorten(name)}");
        _groups.Add(new Group(name, null));
        Item group = ReadRestOfGroup($"(?<g{number}>");
        _groups[number] = new Group(name, group);
        return group;
    }

    /// <summary>What is in a group, in the words of .NET, and its end; whether blanks count is as before after it.</summary>
    private Item ReadRestOfGroup(string opening)
    {
        bool before = _verbose;
        _result.Append(opening);
        Item all = ReadAlternatives();
        Close();
        _verbose = before;
        return all;
    }

    private void Close()
    {
        if (!Skip(")"))
            throw Wrong("an opening parenthesis has no closing one");
        _result.Append(')');
    }

    private Item ReadLookBehind(string opening)
    {
        int before = _behind;
        _behind = Math.Min(_behind, _groups.Count);
        Item group = ReadRestOfGroup(opening);
        _behind = before;
        return group.Least == group.Most ? new Item(0, 0) : throw Wrong("a look-behind can match texts of different lengths");
    }

    /// <summary>(?(1)yes|no), (?(name)yes|no).</summary>
    private Item ReadCondition()
    {
        string name = ReadUpTo(')');
        int number;
        if (name.Length > 0 && name.AsSpan().IndexOfAnyExceptInRange('0', '9') < 0)
        {
            number =
                int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int n) && n is > 0 and < int.MaxValue
                    ? n
                    : throw Wrong("a condition asks for a group that isn't there");
            _asked.Add(number);
        }
        else
        {
            number = NumberOf(IsIdentifier(name) ? name : throw Wrong("a group's name is none"));
        }

        if (number >= _behind)
            throw Wrong("a look-behind asks for a group of its own");
        _result.Append(CultureInfo.InvariantCulture, $"(?(g{number})");
        Item yes = ReadSequence(false),
            no = new(0, 0);
        if (Skip("|"))
        {
            _result.Append('|');
            no = ReadSequence(false);
            if (!IsAtEnd && _text[_at] == '|')
                throw Wrong("a condition has more than two branches");
        }

        Close();
        return yes.Or(no);
    }

    /// <summary>(?ims) for all of the expression, at its start alone; (?i-s:…) for a group.</summary>
    private Item? ReadFlags(bool isStart)
    {
        string on = ReadFlagLetters();
        bool forAll = !IsAtEnd && _text[_at] == ')';
        if (on.Contains('L') || (on.Contains('a') && on.Contains('u')) || (on.Length == 0 && forAll))
            throw Wrong("flags are none");
        if (forAll)
        {
            if (!isStart)
                throw Wrong("flags for all of the expression are not at its start");
            _at++;
            _verbose |= on.Contains('x');
            string flags = Kept(on);
            if (flags.Length > 0)
                _result.Append("(?").Append(flags).Append(')');
            return null;
        }

        string off = "";
        if (Skip("-"))
        {
            off = ReadFlagLetters();
            if (off.Length == 0 || off.AsSpan().ContainsAny("aLu"))
                throw Wrong("flags that are turned off are none");
        }
        else if (on.Length == 0)
        {
            throw Wrong("what follows (? means nothing");
        }

        if (!Skip(":") || on.AsSpan().ContainsAny(off))
            throw Wrong("flags are none");
        bool before = _verbose;
        _verbose = (_verbose || on.Contains('x')) && !off.Contains('x');
        string kept = Kept(off) is { Length: > 0 } less ? $"{Kept(on)}-{less}" : Kept(on);
        Item group = ReadRestOfGroup($"(?{kept}:");
        _verbose = before;
        return group;
    }

    private string ReadFlagLetters()
    {
        int begin = _at;
        while (!IsAtEnd && "aiLmsux".Contains(_text[_at]))
            _at++;
        return _text[begin.._at];
    }

    // Blanks are left out here; texts are ASCII, so that a and u mean the same.
    private static string Kept(string flags) => string.Concat("ims".Where(flags.Contains));

    private Item ReadEscape()
    {
        char c = _at + 1 < _text.Length ? _text[_at + 1] : throw Wrong("a backslash stands at the end");
        if (Places.Contains(c))
        {
            _at += 2;
            _result.Append('\\').Append(c == 'Z' ? 'z' : c);
            return new Item(0, 0, CanRepeat: false);
        }

        if (Classes.Contains(c))
        {
            _at += 2;
            _result.Append('\\').Append(c);
            return new Item(1, 1);
        }

        // Three octal digits, or one that begins with 0, are a character; other digits are a group.
        if (c is >= '1' and <= '9' && !(Rest.Length >= 4 && IsOctal(c) && IsOctal(Rest[2]) && IsOctal(Rest[3])))
        {
            int digits = Rest.Length > 2 && char.IsAsciiDigit(Rest[2]) ? 2 : 1;
            int number = int.Parse(Rest.Slice(1, digits), NumberStyles.None, CultureInfo.InvariantCulture);
            _at += 1 + digits;
            return AppendReference(number);
        }

        AppendLiteral(ReadEscapedCharacter(isInSet: false));
        return new Item(1, 1);
    }

    private static bool IsOctal(char c) => c is >= '0' and <= '7';

    private Item AppendReference(int number)
    {
        if (number >= _groups.Count || _groups[number].Item is not { } width || number == 0)
            throw Wrong("a group is asked for that isn't there, or not closed");
        if (number >= _behind)
            throw Wrong("a look-behind asks for a group of its own");
        _result.Append(CultureInfo.InvariantCulture, $"\\k<g{number}>");
        return width;
    }

    /// <summary>The character of an escape that stands for one: \n, \x41, \101, \., …</summary>
    private Rune ReadEscapedCharacter(bool isInSet)
    {
        _at++;
        char c = _text[_at];
        if (IsOctal(c))
        {
            // Outside of a set only what begins with 0 or has three digits comes here.
            int begin = _at;
            while (_at < _text.Length && _at - begin < 3 && IsOctal(_text[_at]))
                _at++;
            int value = _text[begin.._at].Aggregate(0, (sum, digit) => (sum * 8) + digit - '0');
            return value <= 255 ? new Rune(value) : throw Wrong("an octal number is more than \\377");
        }

        switch (c)
        {
            case 'b' when isInSet:
                _at++;
                return new Rune('\b');
            case 'x':
                return ReadNumber(2);
            case 'u':
                return ReadNumber(4);
            case 'U':
                return ReadNumber(8);
            case 'N':
                throw Wrong("\\N{…} names a character, which is understood as \\u and its number alone");
        }

        int control = Controls.IndexOf(c);
        if (control >= 0)
        {
            _at++;
            return new Rune("\a\f\n\r\t\v"[control]);
        }

        return char.IsAsciiLetterOrDigit(c) ? throw Wrong($"\\{c} means nothing") : ReadRune();
    }

    private Rune ReadNumber(int digits)
    {
        _at++;
        if (Rest.Length < digits || !Hex.TryParse(Rest[..digits], out uint value) || value > 0x10ffff)
            throw Wrong($"an escape has not the {digits} hexadecimal digits of a character");
        _at += digits;
        return Rune.TryCreate(value, out Rune rune) ? rune : Rune.ReplacementChar;
    }

    private void ReadSet()
    {
        _at++;
        _result.Append('[');
        if (Skip("^"))
            _result.Append('^');
        for (bool first = true; ; first = false)
        {
            if (IsAtEnd)
                throw Wrong("a set of characters doesn't end");
            if (!first && Skip("]"))
                break;
            Rune? from = ReadOfSet();
            if (!Rest.StartsWith("-") || Rest.StartsWith("-]"))
            {
                AppendToSet(from);
                continue;
            }

            _at++;
            if (IsAtEnd)
                throw Wrong("a set of characters doesn't end");
            if (from is not { } low || ReadOfSet() is not { } high || high < low)
                throw Wrong("a range of characters is none");
            AppendToSet(low);
            _result.Append('-');
            AppendToSet(high);
        }

        _result.Append(']');
    }

    /// <summary>A character of a set; null: a class of characters, written already.</summary>
    private Rune? ReadOfSet()
    {
        if (_text[_at] != '\\')
            return ReadRune();
        char c = _at + 1 < _text.Length ? _text[_at + 1] : throw Wrong("a backslash stands at the end");
        if (!Classes.Contains(c))
            return ReadEscapedCharacter(isInSet: true);
        _at += 2;
        _result.Append('\\').Append(c);
        return null;
    }

    // Beyond U+FFFF .NET has two characters for one; what is in the field is none of them.
    private void AppendToSet(Rune? character)
    {
        if (character is { } rune)
            AppendCharacter(rune.IsBmp ? (char)rune.Value : '\uffff');
    }

    private void AppendLiteral(Rune rune)
    {
        if (rune.IsBmp)
            AppendCharacter((char)rune.Value);
        else
            _result.Append("(?!)");
    }

    private void AppendCharacter(char c)
    {
        if (char.IsAsciiLetterOrDigit(c))
            _result.Append(c);
        else
            _result.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}");
    }

    private Rune ReadRune()
    {
        // A surrogate without its other half is a character of Python's, and none of any field.
        Rune.DecodeFromUtf16(Rest, out Rune rune, out int length);
        _at += length;
        return rune;
    }

    private bool SkipBlank()
    {
        if (_text[_at] == '#')
        {
            int end = _text.IndexOf('\n', _at);
            _at = end < 0 ? _text.Length : end + 1;
            return true;
        }

        if (_text[_at] is not (' ' or '\t' or '\n' or '\r' or '\v' or '\f'))
            return false;
        _at++;
        return true;
    }

    private bool Skip(string what)
    {
        if (!Rest.StartsWith(what, StringComparison.Ordinal))
            return false;
        _at += what.Length;
        return true;
    }

    private ReadOnlySpan<char> ReadDigits()
    {
        int begin = _at;
        while (!IsAtEnd && char.IsAsciiDigit(_text[_at]))
            _at++;
        return _text.AsSpan(begin, _at - begin);
    }

    private string ReadUpTo(char end)
    {
        int found = _text.IndexOf(end, _at);
        if (found < 0)
            throw Wrong("a group's name doesn't end");
        string name = _text[_at..found];
        _at = found + 1;
        return name;
    }

    private string ReadName(char end) => ReadUpTo(end) is var name && IsIdentifier(name) ? name : throw Wrong("a group's name is none");

    private static bool IsIdentifier(string name) =>
        name.Length > 0 && (char.IsLetter(name[0]) || name[0] == '_') && name.All(c => char.IsLetterOrDigit(c) || c == '_');

    private int NumberOf(string name) =>
        _groups.FindIndex(g => g.Name == name) is > 0 and var number ? number : throw Wrong($"there is no group {Text.Shorten(name)}");

    /// <summary>A part of the expression.</summary>
    /// <param name="Least">How many characters it matches at least.</param>
    /// <param name="Most">At most; <see cref="Endless"/>: any number.</param>
    /// <param name="CanRepeat">A quantifier may follow: it is no place, such as ^.</param>
    private readonly record struct Item(long Least, long Most, bool CanRepeat = true)
    {
        public Item Or(Item other) => new(Math.Min(Least, other.Least), Math.Max(Most, other.Most));
    }

    /// <param name="Name">Empty: it has none.</param>
    /// <param name="Item">The group; null while it is being read.</param>
    private sealed record Group(string Name, Item? Item);
}
