using System.Text;

namespace PciOperator.Core;

/// <summary>Hexadecimal digits without a prefix, sign or blank: what sysfs writes.</summary>
internal static class Hex
{
    /// <summary>Parses 1 to 8 hexadecimal digits.</summary>
    public static bool TryParse(ReadOnlySpan<char> digits, out uint value)
    {
        value = 0;
        if (digits.Length is 0 or > 8)
            return false;
        foreach (char c in digits)
        {
            uint digit;
            if (c is >= '0' and <= '9')
                digit = (uint)(c - '0');
            else if ((char)(c | 0x20) is >= 'a' and <= 'f')
                digit = (uint)((c | 0x20) - 'a' + 10);
            else
                return false;
            value = (value << 4) | digit;
        }

        return true;
    }

    /// <summary>
    /// Parses what Nova takes as a hexadecimal number (Python's <c>int(text, 16)</c>): blanks around, a sign, a 0x
    /// prefix and single underscores between digits are let through, so <c>86</c>, <c> 0x8086 </c> and <c>8_086</c> are numbers.
    /// </summary>
    /// <param name="text">What was written.</param>
    /// <param name="value">The number, or <see cref="long.MaxValue"/> when it is larger than any field.</param>
    public static bool TryParseAsNova(ReadOnlySpan<char> text, out long value)
    {
        value = 0;
        text = text.Trim();
        bool negative = false;
        if (text.Length > 0 && text[0] is '+' or '-')
        {
            negative = text[0] == '-';
            text = text[1..];
        }

        if (text.Length > 1 && text[0] == '0' && text[1] is 'x' or 'X')
        {
            text = text[2..];
            if (text.Length > 0 && text[0] == '_')
                text = text[1..];
        }

        if (text.Length == 0)
            return false;
        bool digitBefore = false;
        foreach (Rune c in text.EnumerateRunes())
        {
            if (c.Value == '_')
            {
                if (!digitBefore)
                    return false;
                digitBefore = false;
                continue;
            }

            if (!IsDigitAsNova(c))
                return false;
            digitBefore = true;
            if (value <= uint.MaxValue)
                value = (value << 4) | (uint)Convert(c);
            else
                value = long.MaxValue;
        }

        if (negative)
            value = -value;
        return digitBefore;
    }

    /// <summary>Whether Python takes it for a hexadecimal digit: any script's decimal digits are.</summary>
    public static bool IsDigitAsNova(Rune c) => Rune.IsDigit(c) || (c.IsAscii && char.IsAsciiHexDigit((char)c.Value));

    private static int Convert(Rune c) => Rune.IsDigit(c) ? (int)Rune.GetNumericValue(c) : (c.Value | 0x20) - 'a' + 10;
}
