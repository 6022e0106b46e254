using System.Globalization;
using System.Text;

namespace PciOperator.Import;

/// <summary>
/// Text from elsewhere as YAML comments. Nothing in it may end its line: what follows a line break would be read as an object, and applied.
/// </summary>
internal static class CommentText
{
    private const int Width = 110;

    /// <summary>The text without line breaks, control characters and marks that turn a line's direction.</summary>
    public static string OneLine(string text)
    {
        var line = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (IsUnseen(Rune.GetUnicodeCategory(rune)) || rune == Rune.ReplacementChar)
                line.Append(' ');
            else
                line.Append(rune);
        }

        return line.ToString();
    }

    /// <summary>Appends comment lines, broken at blanks.</summary>
    public static void Append(StringBuilder yaml, string text)
    {
        int column = 0;
        foreach (string word in OneLine(text).Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            if (column > 0 && column + 1 + word.Length > Width)
            {
                yaml.Append("\n#  ");
                column = 3;
            }
            else if (column == 0)
            {
                yaml.Append('#');
                column = 1;
            }

            yaml.Append(' ').Append(word);
            column += 1 + word.Length;
        }

        yaml.Append(column == 0 ? "#\n" : "\n");
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
