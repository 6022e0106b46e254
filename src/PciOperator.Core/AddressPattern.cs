using System.Text;
using System.Text.RegularExpressions;

namespace PciOperator.Core;

/// <summary>
/// Nova's address object: a regular expression for each of domain, bus, slot and function, matched from the start of
/// the zero-padded lower-case field (Python's <c>re.match</c>: <c>{"bus": "8"}</c> covers bus 81; an empty one covers all).
/// </summary>
public sealed class AddressPattern
{
    private readonly Field domain;
    private readonly Field bus;
    private readonly Field slot;
    private readonly Field function;

    private AddressPattern(AddressPatternFields fields)
    {
        domain = new Field("domain", fields.Domain, "x4", 0);
        bus = new Field("bus", fields.Bus, "x2", 256);
        slot = new Field("slot", fields.Slot, "x2", 32);
        function = new Field("function", fields.Function, "x1", 8);
        FullAddress = fields is { Domain: { } d, Bus: { } b, Slot: { } s, Function: { } f }
            && PciAddress.TryParse($"{d}:{b}:{s}.{f}", out PciAddress address)
                ? address
                : null;
    }

    /// <summary>The address, when all four fields are plain numbers of full width.</summary>
    public PciAddress? FullAddress { get; }

    /// <summary>Parses a pattern.</summary>
    /// <exception cref="SpecFormatException">A field is not a regular expression.</exception>
    public static AddressPattern Parse(AddressPatternFields fields)
    {
        ArgumentNullException.ThrowIfNull(fields);
        return new AddressPattern(fields);
    }

    /// <summary>Whether all four expressions match.</summary>
    public bool Matches(PciAddress address) =>
        bus.Matches((uint)address.Bus) && slot.Matches((uint)address.Slot)
        && function.Matches((uint)address.Function) && domain.Matches(address.Domain);

    /// <summary>One field's expression; what small fields answer is remembered.</summary>
    private sealed class Field
    {
        private const int Longest = 256;
        private const string Escapes = "AbBdDsSwWZafnrtvxuU";
        private readonly Regex? regex;
        private readonly string? literal;
        private readonly string format;
        private readonly sbyte[] known;

        public Field(string name, string? text, string format, int values)
        {
            this.format = format;
            known = [];
            if (text is null or "" or ".*")
                return;
            if (IsPlain(text))
            {
                literal = text;
                return;
            }
            if (text.Length > Longest)
                throw new SpecFormatException("addressPattern", $"addressPattern: {name} is {text.Length} characters long; at most {Longest}.");
            known = new sbyte[values];
            try
            {
                regex = Compile(@"\A(?:" + FromPython(text) + ")");
            }
            catch (ArgumentException e)
            {
                throw new SpecFormatException("addressPattern", $"addressPattern: {name} '{Text.Shorten(text)}' is not a regular expression; for example 8[1-3].", e);
            }
        }

        public bool Matches(uint value)
        {
            if (regex is null)
                return literal is null || value.ToString(format).StartsWith(literal, StringComparison.Ordinal);
            if (value < known.Length && known[value] != 0)
                return known[value] > 0;
            bool matches;
            try
            {
                matches = regex.IsMatch(value.ToString(format));
            }
            catch (RegexMatchTimeoutException)
            {
                matches = false;
            }
            if (value < known.Length)
                known[value] = matches ? (sbyte)1 : (sbyte)-1;
            return matches;
        }

        private static bool IsPlain(string text)
        {
            foreach (char c in text)
            {
                if (!char.IsAsciiLetterOrDigit(c))
                    return false;
            }
            return true;
        }

        // In time linear in the field where the expression allows it; look-around and back-references need the other
        // engine, whose time on a field of eight characters is bounded too.
        private static Regex Compile(string expression)
        {
            try
            {
                return new Regex(expression, RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);
            }
            catch (NotSupportedException)
            {
                return new Regex(expression, RegexOptions.CultureInvariant, TimeSpan.FromSeconds(1));
            }
        }

        // Python's spellings that .NET has otherwise, (?P<n>…), (?P=n), {,n} and \Z. What .NET has and Python has not is
        // no expression: escapes such as \z and \p, names such as (?<n>…) and (?'n'…), a repeated place (^*), a range from a class ([\d-a]).
        private static string FromPython(string text)
        {
            var result = new StringBuilder(text.Length);
            // Where the set of characters that the expression is in the middle of begins.
            int set = -1;
            bool place = false;
            for (int i = 0; i < text.Length; i++)
            {
                ReadOnlySpan<char> rest = text.AsSpan(i);
                bool afterPlace = place;
                place = false;
                if (text[i] == '\\' && i + 1 < text.Length)
                {
                    char escaped = text[++i];
                    if (char.IsAsciiLetter(escaped) && !Escapes.Contains(escaped))
                        throw new ArgumentException($"\\{escaped} means nothing.");
                    if (set >= 0 && "dDsSwW".Contains(escaped) && rest is [_, _, '-', not ']', ..])
                        throw new ArgumentException($"\\{escaped} begins no range.");
                    place = set < 0 && "AbBZ".Contains(escaped);
                    result.Append('\\').Append(escaped == 'Z' ? 'z' : escaped);
                }
                else if (set >= 0)
                {
                    if (text[i] == ']' && i > set + (text[set + 1] == '^' ? 2 : 1))
                        set = -1;
                    result.Append(text[i]);
                }
                else if (afterPlace && (text[i] is '*' or '+' or '?' || Repeats(rest)))
                    throw new ArgumentException("A place can't be repeated.");
                else if (rest.StartsWith("(?P<", StringComparison.Ordinal))
                {
                    result.Append("(?<");
                    i += 3;
                }
                else if (rest.StartsWith("(?P=", StringComparison.Ordinal) && text.IndexOf(')', i) is var end and > 0)
                {
                    result.Append(@"\k<").Append(text, i + 4, end - i - 4).Append('>');
                    i = end;
                }
                else if (rest.StartsWith("(?'", StringComparison.Ordinal) || (rest.StartsWith("(?<", StringComparison.Ordinal) && rest is not ['(', '?', '<', '=' or '!', ..]))
                    throw new ArgumentException("A group's name is written (?P<name>…).");
                else if (rest.StartsWith("{,", StringComparison.Ordinal))
                {
                    result.Append("{0,");
                    i++;
                }
                else
                {
                    if (text[i] == '[' && i + 1 < text.Length)
                        set = i;
                    place = text[i] is '^' or '$';
                    result.Append(text[i]);
                }
            }
            return result.ToString();
        }

        // {n}, {n,}, {,n} or {n,m}
        private static bool Repeats(ReadOnlySpan<char> text)
        {
            int end = text.IndexOf('}');
            return text[0] == '{' && end > 1 && text[1..end].IndexOfAnyExceptInRange('0', '9') is var comma
                && (comma < 0 || (text[1 + comma] == ',' && !text[(2 + comma)..end].ContainsAnyExceptInRange('0', '9')));
        }
    }
}
