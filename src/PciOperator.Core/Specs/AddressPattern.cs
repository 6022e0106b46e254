using System.Text.RegularExpressions;

namespace PciOperator.Core;

/// <summary>
/// Nova's address object: a regular expression for each of domain, bus, slot and function, matched from the start of
/// the zero-padded lower-case field (Python's <c>re.match</c>: <c>{"bus": "8"}</c> covers bus 81; an empty one covers all).
/// </summary>
public sealed class AddressPattern
{
    private readonly Field _domain;
    private readonly Field _bus;
    private readonly Field _slot;
    private readonly Field _function;

    private AddressPattern(AddressPatternFields fields)
    {
        _domain = new Field("domain", fields.Domain, "x4", 0);
        _bus = new Field("bus", fields.Bus, "x2", 256);
        _slot = new Field("slot", fields.Slot, "x2", 32);
        _function = new Field("function", fields.Function, "x1", 8);
        // As sysfs writes it: in capitals or with zeros before the domain it is no device's.
        FullAddress =
            fields is { Domain: { } d, Bus: { } b, Slot: { } s, Function: { } f }
            && PciAddress.TryParse($"{d}:{b}:{s}.{f}", out PciAddress address)
            && address.ToString() == $"{d}:{b}:{s}.{f}"
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
        _bus.Matches((uint)address.Bus)
        && _slot.Matches((uint)address.Slot)
        && _function.Matches((uint)address.Function)
        && _domain.Matches(address.Domain);

    /// <summary>One field's expression; what small fields answer is remembered.</summary>
    private sealed class Field
    {
        private const int Longest = 1024;
        private readonly Regex? _regex;
        private readonly string? _literal;
        private readonly string _format;
        private readonly sbyte[] _known;

        public Field(string name, string? text, string format, int values)
        {
            _format = format;
            _known = [];
            if (text is null or "" or ".*")
                return;
            if (IsPlain(text))
            {
                _literal = text;
                return;
            }

            if (text.Length > Longest)
            {
                throw new SpecFormatException(
                    "addressPattern",
                    $"addressPattern: {name} is {text.Length} characters long; at most {Longest}."
                );
            }

            _known = new sbyte[values];
            try
            {
                _regex = Compile(@"\A(?:" + PythonExpression.Translate(text) + ")");
            }
            catch (ArgumentException e)
            {
                throw new SpecFormatException(
                    "addressPattern",
                    $"addressPattern: {name} '{Text.Shorten(text)}' is not a regular expression ({e.Message}); for example 8[1-3].",
                    e
                );
            }
        }

        public bool Matches(uint value)
        {
            if (_regex is null)
                return _literal is null || value.ToString(_format).StartsWith(_literal, StringComparison.Ordinal);
            if (value < _known.Length && _known[value] != 0)
                return _known[value] > 0;
            bool matches;
            try
            {
                matches = _regex.IsMatch(value.ToString(_format));
            }
            catch (RegexMatchTimeoutException)
            {
                matches = false;
            }

            if (value < _known.Length)
                _known[value] = matches ? (sbyte)1 : (sbyte)-1;
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
    }
}
