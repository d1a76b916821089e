//! The features of both configurations: their names, types and documentation.

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde_json::{Value, json};

use crate::label::Nsfw;
use crate::proto::{self, Feature};

/// The two configurations of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Config {
    /// Images and metadata; the default.
    Images,
    /// Embeddings and metadata.
    Embeddings,
}

impl Config {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Images, Self::Embeddings];

    /// Its name in the catalogue.
    pub fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Embeddings => "embeddings",
        }
    }
}

/// What a loader yields: exactly the features of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// HTML alt-text attribute.
    pub caption: String,
    /// The encoded picture; the images configuration only.
    pub image: Option<Vec<u8>>,
    /// Image and text embedding of 512 values each; the embeddings configuration only.
    pub embeddings: Option<(Vec<f16>, Vec<f16>)>,
    /// Creative Commons licence, `?` where none is known.
    pub license: String,
    /// The tag.
    pub nsfw: Nsfw,
    /// In pixels.
    pub original_height: i32,
    /// In pixels.
    pub original_width: i32,
    /// Cosine similarity; TFDS declares it float64 and stores it as float32.
    pub similarity: f64,
    /// Image URL.
    pub url: String,
}

impl Example {
    /// The similarity, if it is known: -1 stands for an unknown one.
    pub fn known_similarity(&self) -> Option<f64> {
        Some(self.similarity).filter(|similarity| *similarity != -1.0)
    }

    /// Width and height, if they are known: -1 stands for an unknown one.
    pub fn known_size(&self) -> (Option<i32>, Option<i32>) {
        let known = |pixels: i32| Some(pixels).filter(|pixels| *pixels >= 0);
        (known(self.original_width), known(self.original_height))
    }

    /// Appends the example as TFDS stores it: every number with a fraction as float32, names in sorted order.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.with_features(|row| Feature::Halves(row.into()), |features| proto::encode(features, out));
    }

    fn with_features<'a, T>(
        &'a self,
        embedding: impl Fn(&'a [f16]) -> Feature<'a>,
        then: impl FnOnce(&[(&str, Feature<'_>)]) -> T,
    ) -> T {
        let similarity = (self.similarity as f32).to_le_bytes();
        let mut features = Vec::with_capacity(9);
        features.push(("caption", Feature::Bytes(self.caption.as_bytes())));
        if let Some(image) = &self.image {
            features.push(("image", Feature::Bytes(image)));
        }
        if let Some((image, _)) = &self.embeddings {
            features.push(("image_embedding", embedding(image)));
        }
        features.extend([
            ("license", Feature::Bytes(self.license.as_bytes())),
            ("nsfw", Feature::Int(self.nsfw.class())),
            ("original_height", Feature::Int(self.original_height.into())),
            ("original_width", Feature::Int(self.original_width.into())),
            ("similarity", Feature::Floats(similarity.as_slice().into())),
        ]);
        if let Some((_, text)) = &self.embeddings {
            features.push(("text_embedding", embedding(text)));
        }
        features.push(("url", Feature::Bytes(self.url.as_bytes())));
        then(&features)
    }
}

/// The values of an embedding as they lie in their file.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    /// Each value is 4 bytes of a little-endian float32, as TFDS stores it.
    Floats(Cow<'a, [u8]>),
    /// As LAION-400M stores it.
    Halves(&'a [f16]),
}

impl Values<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(bytes) => bytes.len() / 4,
            Self::Halves(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends them as float16: exactly, where they were float16 before TFDS widened them.
    pub fn append_to(&self, out: &mut Vec<f16>) {
        const PART: usize = 256;
        match self {
            Self::Halves(values) => out.extend_from_slice(values),
            Self::Floats(bytes) => {
                let mut floats = [0.0; PART]; // so many at a time that the processor's own instruction converts them
                for part in bytes.as_chunks().0.chunks(PART) {
                    let floats = &mut floats[..part.len()];
                    floats.iter_mut().zip(part).for_each(|(float, &bytes)| *float = f32::from_le_bytes(bytes));
                    let start = out.len();
                    out.resize(start + part.len(), f16::ZERO);
                    out[start..].convert_from_f32_slice(floats);
                }
            }
        }
    }

    /// A copy as float16.
    pub fn to_vec(&self) -> Vec<f16> {
        let mut values = Vec::with_capacity(self.len());
        self.append_to(&mut values);
        values
    }
}

/// Names of the features of both configurations.
pub const FEATURES: [&str; 10] = [
    "caption",
    "image",
    "image_embedding",
    "license",
    "nsfw",
    "original_height",
    "original_width",
    "similarity",
    "text_embedding",
    "url",
];

/// An example as it lies in its record; nothing is copied.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleView<'a> {
    /// As in [`Example`].
    pub caption: &'a str,
    /// As in [`Example`].
    pub image: Option<&'a [u8]>,
    /// Image embedding; the embeddings configuration only.
    pub image_embedding: Option<Values<'a>>,
    /// Text embedding, there if the other one is, and like it.
    pub text_embedding: Option<Values<'a>>,
    /// As in [`Example`].
    pub license: &'a str,
    /// As in [`Example`].
    pub nsfw: Nsfw,
    /// In pixels.
    pub original_height: i32,
    /// In pixels.
    pub original_width: i32,
    /// Cosine similarity.
    pub similarity: f64,
    /// As in [`Example`].
    pub url: &'a str,
}

impl<'a> ExampleView<'a> {
    /// Reads a record; the error names the feature that is missing or of another type.
    pub fn read(record: &'a [u8]) -> Result<Self, String> {
        let names = [
            "caption",
            "license",
            "url",
            "nsfw",
            "original_height",
            "original_width",
            "similarity",
            "image",
            "image_embedding",
            "text_embedding",
        ];
        let mut found: [Option<Feature<'a>>; 10] = Default::default();
        let decoded = proto::decode(record, |name, feature| {
            if let Some(place) = names.iter().position(|known| known.as_bytes() == name) {
                found[place] = Some(feature);
            }
        });
        decoded.ok_or("not a tf.train.Example")?;
        let wrong = |name: &str, feature: Option<&Feature<'_>>| match feature {
            None => format!("no feature {name:?}"),
            Some(_) => format!("feature {name:?} is of another type"),
        };
        let mut found = found.into_iter();
        let mut next = || found.next().expect("as many as names");
        let mut text = |name| match next() {
            Some(Feature::Bytes(bytes)) => {
                std::str::from_utf8(bytes).map_err(|_| format!("feature {name:?} is not UTF-8"))
            }
            other => Err(wrong(name, other.as_ref())),
        };
        let (caption, license, url) = (text("caption")?, text("license")?, text("url")?);
        let mut int = |name| match next() {
            Some(Feature::Int(value)) => Ok(value),
            other => Err(wrong(name, other.as_ref())),
        };
        let (class, height, width) = (int("nsfw")?, int("original_height")?, int("original_width")?);
        let nsfw = usize::try_from(class).ok().and_then(|class| Nsfw::ALL.get(class).copied());
        let size = |name, value: i64| i32::try_from(value).map_err(|_| format!("{name} is {value}"));
        let similarity = match next() {
            Some(Feature::Floats(bytes)) if bytes.len() == 4 => {
                f64::from(f32::from_le_bytes(bytes[..].try_into().expect("4 bytes")))
            }
            other => return Err(wrong("similarity", other.as_ref())),
        };
        let image = match next() {
            None => None,
            Some(Feature::Bytes(bytes)) => Some(bytes),
            other => return Err(wrong("image", other.as_ref())),
        };
        let (image_embedding, text_embedding) = match (next(), next()) {
            (None, None) => (None, None),
            (Some(Feature::Floats(image)), Some(Feature::Floats(text))) => {
                (Some(Values::Floats(image)), Some(Values::Floats(text)))
            }
            (Some(Feature::Floats(_)), text) => return Err(wrong("text_embedding", text.as_ref())),
            (image, _) => return Err(wrong("image_embedding", image.as_ref())),
        };
        Ok(Self {
            caption,
            image,
            image_embedding,
            text_embedding,
            license,
            nsfw: nsfw.ok_or_else(|| format!("nsfw class {class}"))?,
            original_height: size("original_height", height)?,
            original_width: size("original_width", width)?,
            similarity,
            url,
        })
    }

    /// The same example, nothing copied.
    pub fn of(example: &'a Example) -> Self {
        let embedding = |values: &'a Vec<f16>| Values::Halves(values);
        Self {
            caption: &example.caption,
            image: example.image.as_deref(),
            image_embedding: example.embeddings.as_ref().map(|(image, _)| embedding(image)),
            text_embedding: example.embeddings.as_ref().map(|(_, text)| embedding(text)),
            license: &example.license,
            nsfw: example.nsfw,
            original_height: example.original_height,
            original_width: example.original_width,
            similarity: example.similarity,
            url: &example.url,
        }
    }

    /// A copy that needs no record.
    pub fn to_example(&self) -> Example {
        Example {
            caption: self.caption.into(),
            image: self.image.map(<[u8]>::to_vec),
            embeddings: self
                .image_embedding
                .as_ref()
                .map(Values::to_vec)
                .zip(self.text_embedding.as_ref().map(Values::to_vec)),
            license: self.license.into(),
            nsfw: self.nsfw,
            original_height: self.original_height,
            original_width: self.original_width,
            similarity: self.similarity,
            url: self.url.into(),
        }
    }
}

/// `features.json`: the types and documentation of the features. Keys are in sorted order.
pub(super) fn features_json(config: Config) -> Value {
    let class = |name: &str| format!("tensorflow_datasets.core.features.{name}");
    let text = |description: &str| json!({"description": description, "pythonClassName": class("text_feature.Text"), "text": {}});
    let scalar = |description: &str, dtype: &str| {
        json!({
            "description": description,
            "pythonClassName": class("scalar.Scalar"),
            "tensor": {"dtype": dtype, "encoding": "none", "shape": {}}
        })
    };
    let embedding = |description: &str| {
        json!({
            "description": description,
            "pythonClassName": class("tensor_feature.Tensor"),
            "tensor": {"dtype": "float16", "encoding": "none", "shape": {"dimensions": ["512"]}}
        })
    };
    let similarity = "cosine similarity score between the text and image embedding. Missing values default to -1.0";
    let nsfw = "NSFW tag (detected with CLIP). Incohesive and missing tags are replaced with UNTAGGED";
    let mut similarity = scalar(similarity, "float64");
    similarity["valueRange"] = "[0.0, 1.0]".into();
    let image = json!({
        "description": "image",
        "image": {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", "3"]}},
        "pythonClassName": class("image_feature.Image")
    });
    let mut features = vec![("caption", text("HTML alt-text attribute"))];
    match config {
        Config::Images => features.push(("image", image)),
        Config::Embeddings => features.push(("image_embedding", embedding("CLIP image embedding"))),
    }
    features.push(("license", text("type of Creative Commons license (if applicable)")));
    features.push((
        "nsfw",
        json!({
            "classLabel": {"numClasses": "4"},
            "description": nsfw,
            "pythonClassName": class("class_label_feature.ClassLabel")
        }),
    ));
    features.push(("original_height", scalar("original height of the image", "int32")));
    features.push(("original_width", scalar("original width of the image", "int32")));
    features.push(("similarity", similarity));
    if config == Config::Embeddings {
        features.push(("text_embedding", embedding("CLIP text embedding")));
    }
    features.push(("url", text("image URL")));
    let features: serde_json::Map<String, Value> =
        features.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    json!({
        "featuresDict": {"features": features},
        "pythonClassName": class("features_dict.FeaturesDict")
    })
}
