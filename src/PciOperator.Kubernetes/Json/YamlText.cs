using System.Globalization;
using System.Text;
using System.Text.Json;

namespace PciOperator.Kubernetes;

/// <summary>JSON as YAML that every reader of Kubernetes' reads back as it was: what would read as something else than a text is quoted.</summary>
public static class YamlText
{
    // Words that YAML 1.1 or 1.2 reads as something else.
    private static readonly HashSet<string> Words = new(StringComparer.OrdinalIgnoreCase)
    {
        "null",
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
    };

    /// <summary>A document; an object or a list at its top.</summary>
    public static string Of(JsonElement value)
    {
        var text = new StringBuilder();
        if (IsFlow(value))
            text.Append(Flow(value)).Append('\n');
        else
            Block(text, value, 0);
        return text.ToString();
    }

    /// <summary>A text as a scalar: plain where it reads as itself, else in double quotes.</summary>
    public static string Scalar(string text) => IsPlain(text) ? text : Quoted(text);

    private static void Block(StringBuilder text, JsonElement value, int depth)
    {
        if (value.ValueKind == JsonValueKind.Object)
        {
            foreach (JsonProperty property in value.EnumerateObject())
            {
                text.Append(' ', depth * 2).Append(Scalar(property.Name)).Append(':');
                if (IsFlow(property.Value))
                {
                    text.Append(' ').Append(Flow(property.Value)).Append('\n');
                    continue;
                }

                text.Append('\n');
                Block(text, property.Value, property.Value.ValueKind == JsonValueKind.Array ? depth : depth + 1);
            }

            return;
        }

        foreach (JsonElement item in value.EnumerateArray())
        {
            int start = text.Length;
            if (IsFlow(item))
                text.Append(' ', depth * 2).Append("  ").Append(Flow(item)).Append('\n');
            else
                Block(text, item, depth + 1);
            // The first line of an item stands behind the dash.
            text[start + (depth * 2)] = '-';
        }
    }

    private static bool IsFlow(JsonElement value) =>
        value.ValueKind switch
        {
            JsonValueKind.Object => !value.EnumerateObject().MoveNext(),
            JsonValueKind.Array => value.GetArrayLength() == 0,
            _ => true,
        };

    private static string Flow(JsonElement value) =>
        value.ValueKind switch
        {
            JsonValueKind.Object => "{}",
            JsonValueKind.Array => "[]",
            JsonValueKind.String => Scalar(value.GetString()!),
            _ => value.GetRawText(),
        };

    /// <summary>Begins with a letter or '/', ends with no sign, and has nothing that YAML takes for its own; ids of four hexadecimal digits are quoted alike.</summary>
    private static bool IsPlain(string text) =>
        text.Length > 0
        && (char.IsAsciiLetter(text[0]) || text[0] == '/')
        && (char.IsAsciiLetterOrDigit(text[^1]) || text[^1] is '/' or '.' or ')')
        && !Words.Contains(text)
        && !(text.Length == 4 && text.All(char.IsAsciiHexDigit))
        && !text.Contains(": ", StringComparison.Ordinal)
        && text.All(c =>
            char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-' or '/' or ' ' or '(' or ')' or ',' or ';' or '\'' or ':' or '+'
        );

    private static string Quoted(string text)
    {
        StringBuilder quoted = new StringBuilder(text.Length + 2).Append('"');
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (rune.Value is '"' or '\\')
                quoted.Append('\\').Append((char)rune.Value);
            else if (rune.Value is >= ' ' and <= '~')
                quoted.Append((char)rune.Value);
            else if (IsShown(Rune.GetUnicodeCategory(rune)))
                quoted.Append(rune);
            else
                // Never a surrogate by its own number: YAML has none.
                quoted.Append(CultureInfo.InvariantCulture, $"\\U{rune.Value:X8}");
        }

        return quoted.Append('"').ToString();
    }

    private static bool IsShown(UnicodeCategory category) =>
        category <= UnicodeCategory.SpacingCombiningMark
        || category is UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber
        || category is >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherSymbol;
}
