namespace PciOperator.Core;

/// <summary>Small helpers for messages that people read.</summary>
internal static class Text
{
    /// <summary>The text as it goes into a message: at most 64 characters.</summary>
    public static string Shorten(ReadOnlySpan<char> text) => text.Length <= 64 ? text.ToString() : string.Concat(text[..61], "...");
}
