using System.Globalization;
using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Resources;

namespace PciOperator.Sandbox.ApiServer.Tables;

/// <summary>The additionalPrinterColumns of a CustomResourceDefinition.</summary>
internal static class PrinterColumns
{
    /// <summary>The declared columns; Age alone where none are declared.</summary>
    public static IEnumerable<Column> Read(JsonArray? columns)
    {
        if (columns is null)
        {
            yield return Age;
            yield break;
        }

        foreach (JsonObject column in columns.OfType<JsonObject>())
        {
            var path = new JsonPath(column.Str("jsonPath") ?? "");
            string type = column.Str("type") ?? "string";
            yield return new Column(
                column.Str("name") ?? "",
                type,
                (obj, now) => Cell(path.Find(obj), type, now),
                (int)(column.Int("priority") ?? 0),
                column.Str("description") ?? $"Custom resource definition column (in JSONPath format): {column.Str("jsonPath")}",
                column.Str("format") ?? ""
            );
        }
    }

    public static Column Age { get; } =
        new(
            "Age",
            "date",
            (obj, now) => Since(obj.Obj("metadata").Str("creationTimestamp"), now),
            Description: "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
        );

    // As apiextensions' tableconvertor: a value of the wrong type, or none, is an empty cell.
    private static JsonValue? Cell(IReadOnlyList<JsonNode> found, string type, DateTimeOffset now)
    {
        if (found.Count == 0)
            return null;
        switch (type)
        {
            case "integer":
                return Json.AsDouble(found[0]) is { } integer ? JsonValue.Create((long)integer) : null;
            case "number":
                return Json.AsDouble(found[0]) is { } number ? JsonValue.Create(number) : null;
            case "boolean":
                return found[0] is JsonValue value && value.TryGetValue(out bool flag) ? JsonValue.Create(flag) : null;
            case "date":
                return Since(Json.AsString(found[0]), now);
            default:
                // Of several values a server shows the first.
                return JsonValue.Create(JsonPath.Plain(found[0]));
        }
    }

    private static JsonValue Since(string? timestamp, DateTimeOffset now)
    {
        if (!DateTimeOffset.TryParse(timestamp, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out DateTimeOffset then))
            return JsonValue.Create(timestamp is null ? "<unknown>" : "<invalid>");
        return JsonValue.Create(HumanDuration(now - then));
    }

    /// <summary>A duration as kubectl shows ages (apimachinery's duration.HumanDuration).</summary>
    public static string HumanDuration(TimeSpan d)
    {
        long seconds = (long)d.TotalSeconds;
        if (seconds < -1)
            return "<invalid>";
        if (seconds < 0)
            return "0s";
        if (seconds < 120)
            return $"{seconds}s";
        long minutes = seconds / 60;
        if (minutes < 10)
            return seconds % 60 is var s && s == 0 ? $"{minutes}m" : $"{minutes}m{s}s";
        if (minutes < 180)
            return $"{minutes}m";
        long hours = seconds / 3600;
        if (hours < 8)
            return minutes % 60 is var m && m == 0 ? $"{hours}h" : $"{hours}h{m}m";
        if (hours < 48)
            return $"{hours}h";
        if (hours < 192)
            return hours % 24 is var h && h == 0 ? $"{hours / 24}d" : $"{hours / 24}d{h}h";
        if (hours < 24 * 365 * 2)
            return $"{hours / 24}d";
        if (hours < 24 * 365 * 8)
            return hours / 24 % 365 is var days && days == 0 ? $"{hours / 24 / 365}y" : $"{hours / 24 / 365}y{days}d";
        return $"{hours / 24 / 365}y";
    }
}
