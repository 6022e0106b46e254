using PciOperator.Kubernetes.Models;

namespace PciOperator.CrdGenerator;

/// <summary>The schema of a condition, with the limits of <c>metav1.Condition</c> (KEP-1623).</summary>
internal static class ConditionSchema
{
    private static readonly string[] Statuses = ["True", "False", "Unknown"];

    /// <summary>The schema, described by the words on <see cref="V1Condition"/>.</summary>
    public static YamlMap Of(XmlDocumentation documentation)
    {
        return new YamlMap
        {
            ["description"] = documentation.Of(typeof(V1Condition))!,
            ["type"] = "object",
            ["properties"] = new YamlMap
            {
                ["type"] = Text(nameof(V1Condition.Type), 316,
                    @"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"),
                ["status"] = Field(nameof(V1Condition.Status), ("type", "string"), ("enum", Statuses)),
                ["observedGeneration"] = Field(nameof(V1Condition.ObservedGeneration), ("type", "integer"), ("format", "int64"), ("minimum", 0)),
                ["lastTransitionTime"] = Field(nameof(V1Condition.LastTransitionTime), ("type", "string"), ("format", "date-time")),
                ["reason"] = Text(nameof(V1Condition.Reason), 1024, "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", minLength: 1),
                ["message"] = Text(nameof(V1Condition.Message), 32768),
            },
            ["required"] = new[] { "type", "status", "lastTransitionTime", "reason", "message" },
        };

        YamlMap Field(string property, params (string Key, object Value)[] entries)
        {
            var field = new YamlMap { ["description"] = documentation.Of(typeof(V1Condition).GetProperty(property)!)! };
            foreach (var (key, value) in entries)
                field[key] = value;
            return field;
        }

        YamlMap Text(string property, int maxLength, string? pattern = null, int minLength = 0)
        {
            var field = Field(property, ("type", "string"), ("maxLength", maxLength));
            if (minLength > 0)
                field["minLength"] = minLength;
            if (pattern is not null)
                field["pattern"] = pattern;
            return field;
        }
    }
}
