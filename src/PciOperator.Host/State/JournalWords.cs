using System.Text.Json;
using System.Text.Json.Serialization;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// The journal's own words for a value that the API spells in another way. They are a format on disk: an agent of yesterday or of tomorrow
/// reads the same files, whatever the value is called in code or in a resource.
/// </summary>
internal abstract class JournalWords<T>(params (T Value, string Word)[] words) : JsonConverter<T>
    where T : struct, Enum
{
    public override T Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        string? text = reader.TokenType == JsonTokenType.String ? reader.GetString() : null;
        foreach ((T value, string word) in words)
        {
            if (string.Equals(text, word, StringComparison.OrdinalIgnoreCase))
                return value;
        }

        throw new JsonException($"'{text}' is no {typeof(T).Name} of the journal's.");
    }

    public override void Write(Utf8JsonWriter writer, T value, JsonSerializerOptions options) =>
        writer.WriteStringValue(words.First(w => EqualityComparer<T>.Default.Equals(w.Value, value)).Word);
}

internal sealed class JournalDriverWords()
    : JournalWords<BindDriver>((BindDriver.VfioPci, "VfioPci"), (BindDriver.Auto, "Auto"), (BindDriver.PciStub, "PciStub"));

internal sealed class JournalResetWords()
    : JournalWords<ResetMode>((ResetMode.BestEffort, "BestEffort"), (ResetMode.Required, "Required"), (ResetMode.Skip, "Skip"));

/// <summary>What is written as the kernel writes it: addresses and ids.</summary>
internal sealed class JournalText<T> : JsonConverter<T>
    where T : struct, ISpanParsable<T>
{
    public override T Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        string? text = reader.TokenType == JsonTokenType.String ? reader.GetString() : null;
        return T.TryParse(text, null, out T value) ? value : throw new JsonException($"'{text}' is no {typeof(T).Name}.");
    }

    public override void Write(Utf8JsonWriter writer, T value, JsonSerializerOptions options) => writer.WriteStringValue(value.ToString());
}
