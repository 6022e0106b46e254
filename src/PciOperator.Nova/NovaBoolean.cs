using System.Text.Json;
using PciOperator.Core;

namespace PciOperator.Nova;

/// <summary>Nova's booleans in text: 1 t true on y yes and 0 f false off n no, in any case, blanks around.</summary>
internal static class NovaBoolean
{
    /// <summary>Parses a tag that must be one of them.</summary>
    /// <exception cref="SpecFormatException">It is none.</exception>
    public static bool Strict(string field, JsonElement value)
    {
        string text = value.ValueKind == JsonValueKind.String ? value.GetString()! : value.GetRawText();
        return Find(text)
            ?? throw new SpecFormatException(
                field,
                $"{field} '{Text.Shorten(text)}' is neither yes nor no; expected true, yes, on, y, t or 1, or false, no, off, n, f or 0."
            );
    }

    /// <summary>Parses a tag of which anything unknown is false.</summary>
    public static bool Lenient(JsonElement value) =>
        Find(value.ValueKind == JsonValueKind.String ? value.GetString()! : value.GetRawText()) ?? false;

    private static bool? Find(string text) =>
        Text.Strip(text).ToString().ToLowerInvariant() switch
        {
            "1" or "t" or "true" or "on" or "y" or "yes" => true,
            "0" or "f" or "false" or "off" or "n" or "no" => false,
            _ => null,
        };
}
