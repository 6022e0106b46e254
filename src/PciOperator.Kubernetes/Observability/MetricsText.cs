using System.Buffers;
using System.Globalization;
using System.Text;

namespace PciOperator.Kubernetes;

/// <summary>Prometheus' text format, version 0.0.4
/// (<see href="https://prometheus.io/docs/instrumenting/exposition_formats/"/>).</summary>
internal sealed class MetricsText(IBufferWriter<byte> output)
{
    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    public void Header(string name, string help, string type) =>
        Append($"# HELP {name} {help.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal)}\n# TYPE {name} {type}\n");

    public void Sample(string name, IReadOnlyList<string> labels, string[] values, double value) =>
        Line(name, labels, values, null, value);

    public void Bucket(string name, IReadOnlyList<string> labels, string[] values, double bound, long count) =>
        Line(name + "_bucket", labels, values, Number(bound), count);

    public static string Number(double value) => value switch
    {
        double.PositiveInfinity => "+Inf",
        double.NegativeInfinity => "-Inf",
        double.NaN => "NaN",
        _ => value.ToString("R", CultureInfo.InvariantCulture),
    };

    private void Line(string name, IReadOnlyList<string> labels, string[] values, string? bound, double value)
    {
        var line = new StringBuilder(name);
        if (labels.Count > 0 || bound is not null)
        {
            line.Append('{');
            for (var i = 0; i < labels.Count; i++)
                Label(line, labels[i], values[i]);
            if (bound is not null)
                Label(line, "le", bound);
            line.Length--;
            line.Append('}');
        }

        Append(line.Append(' ').Append(Number(value)).Append('\n').ToString());
    }

    private static void Label(StringBuilder line, string name, string value)
    {
        line.Append(name).Append("=\"");
        foreach (var c in value)
        {
            _ = c switch
            {
                '\\' => line.Append("\\\\"),
                '"' => line.Append("\\\""),
                '\n' => line.Append("\\n"),
                _ => line.Append(c),
            };
        }

        line.Append("\",");
    }

    private void Append(string text) => Encoding.UTF8.GetBytes(text, output);
}
