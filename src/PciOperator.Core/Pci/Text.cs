namespace PciOperator.Core;

/// <summary>Small helpers for messages that people read.</summary>
internal static class Text
{
    /// <summary>The text as it goes into a message: at most 64 characters.</summary>
    public static string Shorten(ReadOnlySpan<char> text) => text.Length <= 64 ? text.ToString() : string.Concat(text[..61], "...");

    /// <summary>
    /// The text without blanks around, as Python's <c>str.strip</c> leaves it: to Python the separators U+001C to U+001F are blanks, too.
    /// </summary>
    public static ReadOnlySpan<char> Strip(ReadOnlySpan<char> text)
    {
        text = StripEnd(text);
        while (text.Length > 0 && IsBlank(text[0]))
            text = text[1..];
        return text;
    }

    /// <summary>The text without blanks at its end.</summary>
    public static ReadOnlySpan<char> StripEnd(ReadOnlySpan<char> text)
    {
        while (text.Length > 0 && IsBlank(text[^1]))
            text = text[..^1];
        return text;
    }

    private static bool IsBlank(char c) => char.IsWhiteSpace(c) || c is >= '\u001c' and <= '\u001f';
}
