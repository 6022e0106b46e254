using k8s.Models;

namespace PciOperator.CrdGenerator;

/// <summary>The schema of a condition, with the limits of <c>metav1.Condition</c> (KEP-1623).</summary>
internal static class ConditionSchema
{
    private static readonly string[] Statuses = ["True", "False", "Unknown"];

    /// <summary>The schema of the library's <see cref="V1Condition"/>, in our words: its own are Go's.</summary>
    public static YamlMap Of()
    {
        return new YamlMap
        {
            ["description"] = "A condition of an object, as in KEP-1623.",
            ["type"] = "object",
            ["properties"] = new YamlMap
            {
                ["type"] = Text(
                    "CamelCase name, unique in its list.",
                    316,
                    @"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                ),
                ["status"] = Field("`True`, `False` or `Unknown`.", ("type", "string"), ("enum", Statuses)),
                ["observedGeneration"] = Field(
                    "The `metadata.generation` that the condition was worked out from.",
                    ("type", "integer"),
                    ("format", "int64"),
                    ("minimum", 0)
                ),
                ["lastTransitionTime"] = Field("When `status` last changed.", ("type", "string"), ("format", "date-time")),
                ["reason"] = Text("One CamelCase word for programs.", 1024, "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", minLength: 1),
                ["message"] = Text("A sentence for people.", 32768),
            },
            ["required"] = new[] { "type", "status", "lastTransitionTime", "reason", "message" },
        };

        YamlMap Field(string description, params (string Key, object Value)[] entries)
        {
            var field = new YamlMap { ["description"] = description };
            foreach ((string key, object value) in entries)
                field[key] = value;
            return field;
        }

        YamlMap Text(string description, int maxLength, string? pattern = null, int minLength = 0)
        {
            YamlMap field = Field(description, ("type", "string"), ("maxLength", maxLength));
            if (minLength > 0)
                field["minLength"] = minLength;
            if (pattern is not null)
                field["pattern"] = pattern;
            return field;
        }
    }
}
