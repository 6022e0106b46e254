using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using PciOperator.Kubernetes;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace PciOperator.Cli.Output;

/// <summary>Writes answers: tables cut to a terminal and whole into a pipe, JSON, YAML, names.</summary>
/// <remarks>
/// Nothing that comes from the cluster is ever parsed as Spectre's markup: texts are renderables with a style, and their control characters
/// are gone (<see cref="Plain"/>).
/// </remarks>
internal sealed class Printer(CliIo io, OutputFormat format)
{
    private const int Gap = 2;

    // Wide enough that nothing is wrapped in a pipe.
    private const int Unlimited = 100_000;
    private IAnsiConsole? _console;

    /// <summary>How the answer is written.</summary>
    public OutputFormat Format => format;

    /// <summary>Writes an answer in the format that was asked for.</summary>
    public void Write<T>(Sheet<T> sheet)
    {
        switch (format)
        {
            case OutputFormat.Json or OutputFormat.Yaml:
                Write(new Listing<T>(sheet.Items), sheet.Json);
                break;
            case OutputFormat.Name:
                foreach (T item in sheet.Items)
                    io.Out.WriteLine(Plain.Text(sheet.Name(item)));
                break;
            default:
                Table(sheet);
                break;
        }
    }

    /// <summary>Writes one object as JSON, or as YAML unless JSON was asked for.</summary>
    public void Write<T>(T value, JsonTypeInfo<T> type) => Write(JsonSerializer.SerializeToElement(value, type));

    /// <inheritdoc cref="Write{T}(T, JsonTypeInfo{T})"/>
    public void Write(JsonElement value)
    {
        if (format == OutputFormat.Json)
            io.Out.WriteLine(JsonText(value));
        else
            io.Out.Write(YamlText.Of(value));
    }

    /// <summary>Writes a line for people.</summary>
    public void Line(string text = "", Tone tone = Tone.Plain) => Line((Plain.Text(text), tone));

    /// <summary>Writes a line of several tones for people.</summary>
    public void Line(params IEnumerable<(string Text, Tone Tone)> parts)
    {
        var line = new Paragraph { Overflow = Overflow.Fold };
        foreach ((string text, Tone tone) in parts)
            line.Append(Plain.Text(text), StyleOf(tone));
        Console.Write(line);
        Console.WriteLine();
    }

    /// <summary>Writes a tree for people.</summary>
    public void Tree(Tree tree) => Console.Write(tree);

    /// <summary>A text of several tones.</summary>
    public static IRenderable Phrase(params IEnumerable<(string Text, Tone Tone)> parts)
    {
        var phrase = new Paragraph();
        foreach ((string text, Tone tone) in parts)
            phrase.Append(Plain.Text(text), StyleOf(tone));
        return phrase;
    }

    /// <summary>Writes a table alone.</summary>
    public void Table<T>(Sheet<T> sheet)
    {
        if (sheet.Items.Count == 0)
        {
            io.Out.Flush();
            io.Error.WriteLine(sheet.Nothing);
            io.Error.Flush();
            return;
        }

        Column<T>[] columns = [.. sheet.Columns.Where(c => format == OutputFormat.Wide || !c.Wide)];
        Cell[][] rows = [.. sheet.Items.Select(item => columns.Select(c => c.Show(item)).ToArray())];
        int[] natural = [.. columns.Select((c, i) => Math.Max(c.Heading.Length, rows.Max(r => r[i].Text.Length)))];
        int[] widths =
            io.IsTerminal && format != OutputFormat.Wide
                ? Fit(natural, [.. columns.Select(c => (c.CutTo, c.LeaveOut))], [.. columns.Select(c => c.Heading.Length)], io.Width)
                : natural;
        Row([.. columns.Select(c => new Cell(c.Heading, Tone.Heading))], widths);
        foreach (Cell[] row in rows)
            Row(row, widths);
    }

    /// <summary>The widths of columns for a terminal: cut where that is enough, else some are left out (0).</summary>
    internal static int[] Fit(int[] natural, (int? CutTo, int LeaveOut)[] rules, int[] headings, int width)
    {
        int[] widths = [.. natural];
        while (true)
        {
            int over = Total(widths) - width;
            if (over <= 0)
                return widths;
            int[] least = [.. widths.Select((w, i) => rules[i].CutTo is { } cut ? Math.Min(w, Math.Max(cut, headings[i])) : w)];
            if (Total(least) <= width)
            {
                for (; over > 0; over--)
                    widths[Widest(widths, least)]--;
                return widths;
            }

            int leave = Enumerable
                .Range(0, widths.Length)
                .Where(i => widths[i] > 0 && rules[i].LeaveOut > 0)
                .OrderByDescending(i => rules[i].LeaveOut)
                .FirstOrDefault(-1);
            if (leave < 0)
                return least;
            widths[leave] = 0;
        }
    }

    private static int Total(int[] widths) => widths.Sum() + (Gap * Math.Max(0, widths.Count(w => w > 0) - 1));

    private static int Widest(int[] widths, int[] least) =>
        Enumerable.Range(0, widths.Length).Where(i => widths[i] > least[i]).MaxBy(i => widths[i] - least[i]);

    private void Row(Cell[] cells, int[] widths)
    {
        int last = Array.FindLastIndex(widths, w => w > 0);
        var line = new List<(string, Tone)>();
        for (int i = 0; i <= last; i++)
        {
            if (widths[i] == 0)
                continue;
            string text = Cut(cells[i].Text, widths[i]);
            line.Add((text, cells[i].Tone));
            if (i < last)
                line.Add((new string(' ', widths[i] - text.Length + Gap), Tone.Plain));
        }

        Raw(line);
    }

    // A row is never wrapped by us: what is too long for the terminal was cut, or was asked for whole.
    private void Raw(List<(string Text, Tone Tone)> parts)
    {
        if (!io.HasColours)
        {
            io.Out.WriteLine(string.Concat(parts.Select(p => p.Text)).TrimEnd());
            return;
        }

        foreach ((string text, Tone tone) in parts)
            Console.Write(new Text(text, StyleOf(tone)) { Overflow = Overflow.Fold });
        Console.WriteLine();
    }

    private static string Cut(string text, int width) => text.Length <= width ? text : string.Concat(text.AsSpan(0, width - 1), "…");

    private IAnsiConsole Console => _console ??= Open();

    private IAnsiConsole Open()
    {
        IAnsiConsole console = AnsiConsole.Create(
            new AnsiConsoleSettings
            {
                Out = new AnsiConsoleOutput(io.Out),
                Ansi = io.HasColours ? AnsiSupport.Yes : AnsiSupport.No,
                ColorSystem = io.HasColours ? ColorSystemSupport.Standard : ColorSystemSupport.NoColors,
                Interactive = InteractionSupport.No,
                // Without the enrichers, which turn codes on again where CI's variables are set.
                Enrichment = new ProfileEnrichment { UseDefaultEnrichers = false },
            }
        );
        console.Profile.Width = io.IsTerminal && format != OutputFormat.Wide ? Math.Max(io.Width, 20) : Unlimited;
        console.Profile.Capabilities.Unicode = true;
        return console;
    }

    private static Style StyleOf(Tone tone) =>
        tone switch
        {
            Tone.Good => new Style(Color.Green),
            Tone.Busy => new Style(Color.Yellow),
            Tone.Bad => new Style(Color.Red),
            Tone.Faint => new Style(decoration: Decoration.Dim),
            Tone.Heading => new Style(decoration: Decoration.Bold),
            _ => Style.Plain,
        };

    private static string JsonText(JsonElement value)
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.Default }))
            value.WriteTo(writer);
        return System.Text.Encoding.UTF8.GetString(buffer.ToArray());
    }
}
