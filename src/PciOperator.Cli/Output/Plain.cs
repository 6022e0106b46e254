using System.Globalization;
using System.Text;

namespace PciOperator.Cli.Output;

/// <summary>Text from elsewhere, made harmless for a terminal.</summary>
internal static class Plain
{
    /// <summary>
    /// The text with a blank for everything that a terminal would act on or not show: control characters (ESC, C1), marks that turn its
    /// direction, line separators, halves of characters.
    /// </summary>
    public static string Text(string? text)
    {
        if (text is null)
            return "";
        if (!NeedsChange(text))
            return text;
        var plain = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (IsSeen(rune))
                plain.Append(rune);
            else
                plain.Append(' ');
        }

        return plain.ToString();
    }

    /// <summary>Whether a terminal shows a character, and does nothing else with it.</summary>
    public static bool IsSeen(Rune rune) => !IsUnseen(Rune.GetUnicodeCategory(rune)) && rune != Rune.ReplacementChar;

    private static bool NeedsChange(string text)
    {
        foreach (char c in text)
        {
            if (c is < ' ' or > '~')
                return true;
        }

        return false;
    }

    private static bool IsUnseen(UnicodeCategory category) =>
        category
            is UnicodeCategory.Control
                or UnicodeCategory.Format
                or UnicodeCategory.Surrogate
                or UnicodeCategory.PrivateUse
                or UnicodeCategory.OtherNotAssigned
                or UnicodeCategory.LineSeparator
                or UnicodeCategory.ParagraphSeparator;
}
