namespace PciOperator.Core;

/// <summary>
/// Nova's address glob, <c>[[[domain]:]bus]:]slot[.function]</c>, read from the right: <c>0a</c> is slot 0a,
/// <c>.1</c> function 1, <c>81:.</c> bus 81. A field that is empty or <c>*</c> is any; any other must be a whole number.
/// </summary>
public sealed class AddressGlob
{
    private const int Any = -1;
    private const int None = -2;

    // A number, any or none.
    private readonly long _domain;
    private readonly int _bus;
    private readonly int _slot;
    private readonly int _function;

    private AddressGlob(long domain, int bus, int slot, int function)
    {
        (_domain, _bus, _slot, _function) = (domain, bus, slot, function);
        FullAddress = domain >= 0 && bus >= 0 && slot >= 0 && function >= 0 ? new PciAddress((uint)domain, bus, slot, function) : null;
    }

    /// <summary>The address, when all four fields are given.</summary>
    public PciAddress? FullAddress { get; }

    /// <summary>Parses a glob.</summary>
    /// <exception cref="SpecFormatException">Too many fields, a field that is not a hexadecimal number, or one that is too
    /// large.</exception>
    public static AddressGlob Parse(string text) => Parse(text, false);

    /// <summary>The same; a negative field is one that no device has, where Nova's words are read, else an error.</summary>
    internal static AddressGlob Parse(string text, bool asNova)
    {
        ArgumentNullException.ThrowIfNull(text);
        ReadOnlySpan<char> rest = text;
        ReadOnlySpan<char> functionText = "*";
        int dot = rest.IndexOf('.');
        if (dot >= 0)
        {
            if (dot + 1 < rest.Length)
                functionText = rest[(dot + 1)..];
            rest = rest[..dot];
        }

        int colons = rest.Count(':');
        if (colons > 2)
        {
            throw new SpecFormatException(
                "address",
                $"address '{Text.Shorten(text)}' has too many fields; expected [[domain:]bus:]slot[.function], for example 0000:81:00.0 or 81:."
            );
        }

        ReadOnlySpan<char> domainText = colons == 2 ? Cut(ref rest) : "*";
        ReadOnlySpan<char> busText = colons >= 1 ? Cut(ref rest) : "*";
        return new AddressGlob(
            Field("domain", domainText, uint.MaxValue, asNova),
            (int)Field("bus", busText, 0xff, asNova),
            (int)Field("slot", rest, 0x1f, asNova),
            (int)Field("function", functionText, 7, asNova, blankIsAny: false)
        );
    }

    /// <summary>Whether the glob covers the address.</summary>
    public bool Matches(PciAddress address) =>
        (_domain == Any || _domain == address.Domain)
        && (_bus == Any || _bus == address.Bus)
        && (_slot == Any || _slot == address.Slot)
        && (_function == Any || _function == address.Function);

    /// <summary>Whether a field is a negative number, as Nova lets through: no device has that.</summary>
    internal bool IsOfNone => _domain == None || _bus == None || _slot == None || _function == None;

    /// <summary>All four fields, <c>*</c> for any.</summary>
    public override string ToString() => $"{Field(_domain, "x4")}:{Field(_bus, "x2")}:{Field(_slot, "x2")}.{Field(_function, "x")}";

    private static string Field(long value, string format) => value < 0 ? "*" : value.ToString(format);

    private static ReadOnlySpan<char> Cut(ref ReadOnlySpan<char> rest)
    {
        int colon = rest.IndexOf(':');
        ReadOnlySpan<char> first = rest[..colon];
        rest = rest[(colon + 1)..];
        return first;
    }

    private static long Field(string name, ReadOnlySpan<char> text, uint maximum, bool asNova, bool blankIsAny = true)
    {
        ReadOnlySpan<char> trimmed = Text.Strip(text);
        if ((trimmed.Length == 0 && blankIsAny) || trimmed is "*")
            return Any;
        if (!Hex.TryParseAsNova(trimmed, out long value) || (value < 0 && !asNova))
        {
            throw new SpecFormatException(
                "address",
                $"address: {name} '{Text.Shorten(text)}' is not a hexadecimal number; a field is a whole number, empty or *."
            );
        }

        if (value > maximum)
        {
            throw new SpecFormatException(
                "address",
                $"address: {name} '{Text.Shorten(text)}' is larger than {maximum:x}, the largest {name}."
            );
        }

        return value < 0 ? None : value;
    }
}
