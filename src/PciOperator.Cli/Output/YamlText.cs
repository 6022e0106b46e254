using System.Text;
using System.Text.Json;

namespace PciOperator.Cli.Output;

/// <summary>JSON as YAML: what would read as something else than a text is quoted.</summary>
internal static class YamlText
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
        Block(text, value, 0);
        return text.ToString();
    }

    /// <summary>A text as a scalar: plain where it reads as itself, else in double quotes.</summary>
    public static string Scalar(string text)
    {
        if (IsPlain(text))
            return text;
        var quoted = new StringBuilder("\"");
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (rune.Value is '"' or '\\')
                quoted.Append('\\').Append(rune);
            else if (rune.Value == '\n')
                quoted.Append("\\n");
            else if (rune.Value is >= ' ' and <= '~' || Plain.IsSeen(rune))
                quoted.Append(rune);
            else
                quoted.Append($"\\U{rune.Value:X8}");
        }

        return quoted.Append('"').ToString();
    }

    private static void Block(StringBuilder text, JsonElement value, int depth)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Object:
                foreach (JsonProperty property in value.EnumerateObject())
                {
                    Indent(text, depth).Append(Scalar(property.Name)).Append(':');
                    Child(text, property.Value, property.Value.ValueKind == JsonValueKind.Array ? depth : depth + 1);
                }

                break;
            case JsonValueKind.Array:
                foreach (JsonElement item in value.EnumerateArray())
                    Item(text, item, depth);
                break;
            default:
                Indent(text, depth).Append(Flow(value)).Append('\n');
                break;
        }
    }

    private static void Child(StringBuilder text, JsonElement value, int depth)
    {
        if (IsFlow(value))
        {
            text.Append(' ').Append(Flow(value)).Append('\n');
            return;
        }

        text.Append('\n');
        Block(text, value, depth);
    }

    private static void Item(StringBuilder text, JsonElement item, int depth)
    {
        if (IsFlow(item))
        {
            Indent(text, depth).Append("- ").Append(Flow(item)).Append('\n');
            return;
        }

        // The first line of a block stands behind the dash.
        int start = text.Length;
        Block(text, item, depth + 1);
        text[start + (depth * 2)] = '-';
    }

    private static StringBuilder Indent(StringBuilder text, int depth) => text.Append(' ', depth * 2);

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

    /// <summary>Letters, digits and a few signs, beginning with a letter: no number, time or indicator of YAML looks so.</summary>
    private static bool IsPlain(string text) =>
        text.Length > 0
        && (char.IsAsciiLetter(text[0]) || text[0] == '/')
        && text[^1] != ':'
        && !text.Contains(": ", StringComparison.Ordinal)
        && !text.Contains(" #", StringComparison.Ordinal)
        && text[^1] != ' '
        && !Words.Contains(text)
        && text.All(c =>
            char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-' or '/' or ' ' or '(' or ')' or ',' or ';' or '\'' or ':' or '+'
        );
}
