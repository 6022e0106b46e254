using System.Text.Json;

namespace PciOperator.NovaVectors;

/// <summary>
/// Instances by the names that Nova's answers have for them: a case's number is the end of a UUID of zeros there, a UUID is itself.
/// </summary>
internal sealed class Instances
{
    private readonly HashSet<string> _named = new(StringComparer.Ordinal);

    /// <param name="answer">Nova's answer to a sequence.</param>
    public Instances(JsonElement answer)
    {
        foreach (JsonElement step in answer.GetProperty("steps").EnumerateArray())
        {
            foreach (string list in (ReadOnlySpan<string>)["allocations", "claims"])
            {
                if (step.TryGetProperty(list, out JsonElement held) && held.ValueKind == JsonValueKind.Object)
                    _named.UnionWith(held.EnumerateObject().Select(p => p.Name));
            }

            if (step.TryGetProperty("states", out JsonElement states) && states.ValueKind == JsonValueKind.Object)
            {
                _named.UnionWith(
                    states
                        .EnumerateObject()
                        .Select(p => p.Value)
                        .Where(s => s.ValueKind == JsonValueKind.Array && s.GetArrayLength() > 1)
                        .Select(s => s[1].ToString())
                );
            }
        }
    }

    /// <summary>The owner that an operation names; null: it names none.</summary>
    public string? Of(JsonElement op)
    {
        if (
            !op.TryGetProperty("instance", out JsonElement instance)
            || instance.ValueKind is not (JsonValueKind.String or JsonValueKind.Number)
        )
        {
            return null;
        }

        string name = instance.ToString();
        string padded = $"00000000-0000-0000-0000-{name.PadLeft(12, '0')}";
        // One that no answer has, since it never got a device, is whatever it is.
        return _named.Contains(padded) ? padded
            : _named.Contains(name) ? name
            : _named.FirstOrDefault(n => n.Equals(name, StringComparison.OrdinalIgnoreCase))
                ?? (Guid.TryParse(name, out _) ? name : padded);
    }
}
