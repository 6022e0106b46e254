using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace PciOperator.Sandbox.ApiServer.Schemas;

/// <summary>Checks an object against a structural schema, with the messages of kube-openapi and apiextensions.</summary>
internal static partial class SchemaValidation
{
    public static List<Violation> Check(JsonObject obj, Schema schema)
    {
        var found = new List<Violation>();
        Check(obj, schema, "", found);
        CheckLists(obj, schema, "", found);
        return found;
    }

    private static void Check(JsonNode? node, Schema schema, string path, List<Violation> found)
    {
        if (node is null)
        {
            if (!schema.Nullable && (schema.Type is not null || schema.IntOrString))
                found.Add(Violation.TypeInvalid(path, "null", $"{path} in body must be of type {TypeOf(schema)}: \"null\""));
            return;
        }

        if (!HasType(node, schema, out string? actual))
        {
            string type = TypeOf(schema);
            if (actual == "number" && schema is { Type: "integer", Format: { } format })
                (actual, type) = ("float64", format);
            found.Add(Violation.TypeInvalid(path, actual, $"{path} in body must be of type {type}: \"{actual}\""));
            return;
        }

        if (schema.Enum is { } values && !values.Any(v => Json.Same(v, node)))
            found.Add(Violation.NotSupported(path, node, values));
        switch (node)
        {
            case JsonObject obj:
                CheckObject(obj, schema, path, found);
                break;
            case JsonArray array:
                CheckArray(array, schema, path, found);
                break;
            default:
                if (Json.AsString(node) is { } text)
                    CheckString(node, text, schema, path, found);
                else if (Json.AsDouble(node) is { } number)
                    CheckNumber(node, number, schema, path, found);
                break;
        }

        CheckCombinations(node, schema, path, found);
    }

    private static void CheckObject(JsonObject obj, Schema schema, string path, List<Violation> found)
    {
        if (schema.MaxProperties is { } most && obj.Count > most)
            found.Add(Violation.TooMany(path, obj.Count, most));
        if (schema.MinProperties is { } least && obj.Count < least)
            found.Add(Violation.Invalid(path, obj, $"{path} in body should have at least {least} properties"));
        foreach (string name in schema.Required)
        {
            if (obj[name] is null && !(obj.ContainsKey(name) && schema.Field(name) is { Nullable: true }))
                found.Add(Violation.Required(Join(path, name)));
        }

        foreach ((string name, JsonNode? value) in obj)
        {
            if (schema.Field(name) is not { } field)
                continue;
            if (path.Length == 0 && name is "metadata" or "apiVersion" or "kind")
                continue;
            // A null stands for nothing there.
            if (value is not null)
                Check(value, field, Join(path, name), found);
        }
    }

    private static void CheckArray(JsonArray array, Schema schema, string path, List<Violation> found)
    {
        if (schema.MaxItems is { } most && array.Count > most)
            found.Add(Violation.TooMany(path, array.Count, most));
        if (schema.MinItems is { } least && array.Count < least)
            found.Add(Violation.Invalid(path, JsonValue.Create((long)array.Count), $"{path} in body should have at least {least} items"));
        if (schema.UniqueItems && HasDuplicates(array))
            found.Add(Violation.Invalid(path, array, $"{path} in body shouldn't contain duplicates"));
        if (schema.Items is not { } items)
            return;
        for (int i = 0; i < array.Count; i++)
            Check(array[i], items, $"{path}[{i}]", found);
    }

    private static void CheckString(JsonNode node, string text, Schema schema, string path, List<Violation> found)
    {
        // Length counts code points, as Go's utf8.RuneCountInString does; only the first finding is told.
        int length = text.EnumerateRunes().Count();
        if (schema.MaxLength is { } most && length > most)
            found.Add(Violation.TooLong(path, $"may not be more than {most} bytes"));
        else if (schema.MinLength is { } least && length < least)
            found.Add(Violation.Invalid(path, node, $"{path} in body should be at least {least} chars long"));
        else if (schema.Pattern is { } pattern && !pattern.IsMatch(text))
            found.Add(Violation.Invalid(path, node, $"{path} in body should match '{schema.PatternText}'"));
        if (schema.Format is { } format && !HasFormat(text, format))
            found.Add(Violation.Invalid(path, node, $"{path} in body must be of type {format}: {Json.Text(node)}"));
    }

    private static void CheckNumber(JsonNode node, double number, Schema schema, string path, List<Violation> found)
    {
        if (schema.Maximum is { } most && (schema.ExclusiveMaximum ? number >= most : number > most))
        {
            found.Add(
                Violation.Invalid(
                    path,
                    node,
                    $"{path} in body should be less than {(schema.ExclusiveMaximum ? "" : "or equal to ")}{Number(most)}"
                )
            );
        }

        if (schema.Minimum is { } least && (schema.ExclusiveMinimum ? number <= least : number < least))
        {
            found.Add(
                Violation.Invalid(
                    path,
                    node,
                    $"{path} in body should be greater than {(schema.ExclusiveMinimum ? "" : "or equal to ")}{Number(least)}"
                )
            );
        }

        if (schema.MultipleOf is { } factor && Math.Abs(number / factor - Math.Round(number / factor)) > 1e-9)
            found.Add(Violation.Invalid(path, node, $"{path} in body should be a multiple of {Number(factor)}"));
        if (schema.Format == "int32" && (number < int.MinValue || number > int.MaxValue))
            found.Add(Violation.Invalid("", JsonValue.Create(""), $"Checked value must be of type integer with format int32 in {path}"));
    }

    private static void CheckCombinations(JsonNode node, Schema schema, string path, List<Violation> found)
    {
        foreach (Schema part in schema.AllOf)
            Check(node, part, path, found);
        if (schema.AnyOf.Count > 0 && !schema.AnyOf.Any(part => Fits(node, part, path)))
            found.Add(Violation.Invalid(path, node, $"{path} in body must validate at least one schema (anyOf)"));
        if (schema.OneOf.Count > 0 && schema.OneOf.Count(part => Fits(node, part, path)) is var fits && fits != 1)
        {
            found.Add(
                Violation.Invalid(
                    path,
                    node,
                    fits == 0
                        ? $"{path} in body must validate one and only one schema (oneOf). Found none valid"
                        : $"{path} in body must validate one and only one schema (oneOf). Found {fits} valid alternatives"
                )
            );
        }

        if (schema.Not is { } not && Fits(node, not, path))
            found.Add(Violation.Invalid(path, node, $"{path} in body must not validate the schema (not)"));
    }

    private static bool Fits(JsonNode node, Schema schema, string path)
    {
        var found = new List<Violation>();
        Check(node, schema, path, found);
        return found.Count == 0;
    }

    /// <summary>The uniqueness of list sets and list maps, which apiextensions checks after the schema itself.</summary>
    private static void CheckLists(JsonNode? node, Schema schema, string path, List<Violation> found)
    {
        switch (node)
        {
            case JsonObject obj:
                foreach ((string name, JsonNode? value) in obj)
                {
                    if (schema.Field(name) is { } field)
                        CheckLists(value, field, Join(path, name), found);
                }

                break;
            case JsonArray array:
                if (schema.ListType != ListType.Atomic)
                {
                    var seen = new HashSet<string>(StringComparer.Ordinal);
                    for (int i = 0; i < array.Count; i++)
                    {
                        JsonNode? key =
                            schema.ListType == ListType.Set ? array[i].Copy() : KeyOf(array[i] as JsonObject, schema.ListMapKeys);
                        if (!seen.Add(Json.Text(key)))
                            found.Add(Violation.Duplicate($"{path}[{i}]", key));
                    }
                }

                if (schema.Items is { } items)
                {
                    for (int i = 0; i < array.Count; i++)
                        CheckLists(array[i], items, $"{path}[{i}]", found);
                }

                break;
        }
    }

    private static JsonObject KeyOf(JsonObject? item, IReadOnlyList<string> keys)
    {
        var key = new JsonObject();
        foreach (string name in keys)
        {
            if (item is not null && item.TryGetPropertyValue(name, out JsonNode? value))
                key[name] = value.Copy();
        }

        return key;
    }

    private static bool HasDuplicates(JsonArray array)
    {
        for (int i = 1; i < array.Count; i++)
        {
            for (int j = 0; j < i; j++)
            {
                if (Json.Same(array[i], array[j]))
                    return true;
            }
        }

        return false;
    }

    private static string TypeOf(Schema schema) => schema.IntOrString ? "integer,string" : schema.Type ?? "";

    private static bool HasType(JsonNode node, Schema schema, out string actual)
    {
        actual = node switch
        {
            JsonObject => "object",
            JsonArray => "array",
            _ when Json.AsString(node) is not null => "string",
            _ when Json.AsLong(node) is not null => "integer",
            _ when Json.AsDouble(node) is { } d => d == Math.Floor(d) && !double.IsInfinity(d) ? "integer" : "number",
            _ => "boolean",
        };
        if (schema.IntOrString)
            return actual is "integer" or "string";
        return schema.Type is null || schema.Type == actual || (schema.Type == "number" && actual == "integer");
    }

    private static bool HasFormat(string text, string format) =>
        format switch
        {
            "date-time" => IsDateTime(text),
            "date" => System.DateTime.TryParseExact(text, "yyyy-MM-dd", CultureInfo.InvariantCulture, DateTimeStyles.None, out _),
            "uuid" => Guid.TryParse(text, out _),
            "ipv4" => System.Net.IPAddress.TryParse(text, out IPAddress? four)
                && four.AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork
                && text.Count(c => c == '.') == 3,
            "ipv6" => System.Net.IPAddress.TryParse(text, out IPAddress? six)
                && six.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6,
            "byte" => System.Buffers.Text.Base64.IsValid(text),
            _ => true,
        };

    private static string Join(string path, string name) => path.Length == 0 ? name : path + "." + name;

    private static string Number(double number) => number.ToString("R", CultureInfo.InvariantCulture);

    /// <summary>As loose as the real server's (k8s.io/kube-openapi strfmt): any offset of four digits, the year 0, small letters.</summary>
    private static bool IsDateTime(string text)
    {
        Match match = DateTime().Match(text);
        if (!match.Success)
            return false;
        int Part(int group) => int.Parse(match.Groups[group].ValueSpan, CultureInfo.InvariantCulture);
        // Year 0 is a leap year, and .NET has none; 2000 is one as well.
        int year = Part(1) == 0 ? 2000 : Part(1);
        return Part(2) is >= 1 and <= 12
            && Part(3) >= 1
            && Part(3) <= System.DateTime.DaysInMonth(year, Part(2))
            && Part(4) <= 23
            && Part(5) <= 59
            && Part(6) <= 59;
    }

    [GeneratedRegex(
        "^([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(\\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$",
        RegexOptions.CultureInvariant
    )]
    private static partial Regex DateTime();
}
