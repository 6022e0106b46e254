using System.Text.Json.Serialization.Metadata;

namespace PciOperator.Cli.Output;

/// <summary>How an answer is written.</summary>
internal enum OutputFormat
{
    /// <summary>A table for people, cut to the terminal.</summary>
    Table,

    /// <summary>A table with all columns, uncut.</summary>
    Wide,

    /// <summary>JSON.</summary>
    Json,

    /// <summary>YAML.</summary>
    Yaml,

    /// <summary>Names alone, one a line.</summary>
    Name,
}

/// <summary>What a cell means: its colour on a terminal.</summary>
internal enum Tone
{
    /// <summary>Nothing of note.</summary>
    Plain,

    /// <summary>As it should be; free.</summary>
    Good,

    /// <summary>Busy, or on its way.</summary>
    Busy,

    /// <summary>Wrong.</summary>
    Bad,

    /// <summary>Of less interest.</summary>
    Faint,

    /// <summary>A heading.</summary>
    Heading,
}

/// <summary>A cell of a table.</summary>
internal readonly record struct Cell(string Text, Tone Tone = Tone.Plain)
{
    /// <summary>A dash where there is nothing.</summary>
    public static Cell Of(string? text, Tone tone = Tone.Plain) =>
        string.IsNullOrEmpty(text) ? new("-", Tone.Faint) : new(Plain.Text(text), tone);

    /// <inheritdoc cref="Of(string, Tone)"/>
    public static Cell Of(int? number) => Of(number?.ToString());
}

/// <summary>A column: what it shows, and what becomes of it where the terminal is narrow.</summary>
internal sealed record Column<T>(string Heading, Func<T, Cell> Show)
{
    /// <summary>Only in wide tables.</summary>
    public bool Wide { get; init; }

    /// <summary>What it may be cut to; null: it is never cut.</summary>
    public int? CutTo { get; init; }

    /// <summary>Columns of higher numbers are left out first where the terminal is too narrow; 0: never.</summary>
    public int LeaveOut { get; init; }
}

/// <summary>An answer: objects, the table that shows them, and their names.</summary>
internal sealed record Sheet<T>(
    IReadOnlyList<T> Items,
    IReadOnlyList<Column<T>> Columns,
    Func<T, string> Name,
    JsonTypeInfo<Listing<T>> Json
)
{
    /// <summary>What to say instead of an empty table.</summary>
    public string Nothing { get; init; } = "Nothing.";
}

/// <summary>Objects in JSON and YAML.</summary>
internal sealed record Listing<T>(IReadOnlyList<T> Items);
