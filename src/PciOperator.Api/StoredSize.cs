using System.Text.Json;

namespace PciOperator.Api;

/// <summary>
/// How big a PciNode may become. etcd takes 1.5 MiB a request (its <c>--max-request-bytes</c>), and beside what is written the server keeps
/// who wrote each field. Each writer has a share, so that neither has to wait until the other has made room.
/// </summary>
public static class StoredSize
{
    /// <summary>The share of <c>spec.rules</c>.</summary>
    public const int Rules = 200_000;

    /// <summary>The share of <c>spec.assignments</c>.</summary>
    public const int Assignments = 350_000;

    /// <summary>The share of <c>status</c>.</summary>
    public const int Status = 900_000;

    // As managedFields has them: "f:name":{}, for a field and "k:{\"address\":\"0000:31:00.0\"}":{".":{}}, for an item of a list.
    private const int FieldNote = 8;
    private const int ItemNote = 48;

    /// <summary>What some JSON of an object takes in etcd: itself and the notes of who wrote it. Never less than that.</summary>
    public static int Of(ReadOnlySpan<byte> json)
    {
        int size = json.Length;
        var reader = new Utf8JsonReader(json);
        while (reader.Read())
        {
            size += reader.TokenType switch
            {
                JsonTokenType.PropertyName => reader.ValueSpan.Length + FieldNote,
                JsonTokenType.StartObject => ItemNote,
                _ => 0,
            };
        }

        return size;
    }
}
