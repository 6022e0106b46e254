using System.Text.Json;
using PciOperator.Core;

namespace PciOperator.Nova;

/// <summary>Reads the JSON of Nova's options, with errors of this project's one kind.</summary>
internal static class NovaJson
{
    public static JsonDocument Parse(string field, string text)
    {
        try
        {
            return JsonDocument.Parse(text, new JsonDocumentOptions { MaxDepth = 64 });
        }
        catch (JsonException e)
        {
            throw new SpecFormatException(field, $"'{Text.Shorten(text)}' is not JSON: {e.Message}", e);
        }
        catch (ArgumentException e)
        {
            // Text with a lone surrogate can't be JSON.
            throw new SpecFormatException(field, $"The {field} is not valid Unicode text.", e);
        }
    }

    /// <summary>The object's members; of a name given twice, the last counts.</summary>
    public static Dictionary<string, JsonElement> Members(string field, JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Object)
        {
            throw new SpecFormatException(
                field,
                $"'{Text.Shorten(value.GetRawText())}' is not a JSON object; expected for example {{\"vendor_id\": \"8086\", \"product_id\": \"10ca\"}}."
            );
        }

        var members = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        try
        {
            foreach (JsonProperty p in value.EnumerateObject())
                members[p.Name] = p.Value;
            foreach (JsonElement m in members.Values)
                CheckText(m);
        }
        catch (InvalidOperationException e)
        {
            throw new SpecFormatException(field, $"The {field} has text that is not valid Unicode.", e);
        }

        return members;
    }

    private static void CheckText(JsonElement value)
    {
        if (value.ValueKind == JsonValueKind.String)
        {
            value.GetString();
        }
        else if (value.ValueKind == JsonValueKind.Object)
        {
            foreach (JsonProperty p in value.EnumerateObject())
            {
                _ = p.Name;
                CheckText(p.Value);
            }
        }
        else if (value.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement item in value.EnumerateArray())
                CheckText(item);
        }
    }

    /// <summary>The text of a member, or null when it is absent or null.</summary>
    /// <exception cref="SpecFormatException">It is another kind of JSON value.</exception>
    public static string? TextOf(string field, Dictionary<string, JsonElement> members)
    {
        if (!members.TryGetValue(field, out JsonElement value))
            return null;
        return value.ValueKind == JsonValueKind.String
            ? value.GetString()
            : throw new SpecFormatException(field, $"{field} {Text.Shorten(value.GetRawText())} is not text; write it in quotes.");
    }

    /// <summary>Python's idea of a value that counts as absent: null, false, 0 and what is empty.</summary>
    public static bool IsEmpty(JsonElement value) =>
        value.ValueKind switch
        {
            JsonValueKind.Null or JsonValueKind.False => true,
            JsonValueKind.String => value.GetString()!.Length == 0,
            JsonValueKind.Number => value.TryGetDouble(out double number) && number == 0,
            JsonValueKind.Object => !value.EnumerateObject().MoveNext(),
            JsonValueKind.Array => value.GetArrayLength() == 0,
            _ => false,
        };
}
