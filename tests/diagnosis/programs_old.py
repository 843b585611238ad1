"""Older programs: Keras 1, Python 2, and the five published programs retold in our own words.

A comment `#: id` marks the line that a finding must point to.
"""

HEALTHY: dict[str, str] = {
    "python 2, keras 1": """
from keras.datasets import mnist
from keras.models import Sequential
from keras.layers.core import Dense, Dropout, Activation
from keras.optimizers import SGD
from keras.utils import np_utils

nb_epoch = 20
(X_train, y_train), (X_test, y_test) = mnist.load_data()
X_train = X_train.reshape(60000, 784).astype('float32') / 255
X_test = X_test.reshape(10000, 784).astype('float32') / 255
print 'train samples:', X_train.shape[0]
print "%d test samples" % X_test.shape[0]
Y_train = np_utils.to_categorical(y_train, 10)
Y_test = np_utils.to_categorical(y_test, 10)
model = Sequential()
model.add(Dense(512, input_shape=(784,), init='glorot_uniform'))
model.add(Activation('relu'))
model.add(Dropout(0.2))
model.add(Dense(10))
model.add(Activation('softmax'))
model.compile(loss='categorical_crossentropy', optimizer=SGD(lr=0.01, momentum=0.9), metrics=['accuracy'])
try:
    model.fit(X_train, Y_train, batch_size=128, nb_epoch=nb_epoch, validation_split=0.1)
except Exception, e:
    print e
print 'accuracy:', model.evaluate(X_test, Y_test)[1]
""",
}

FAULTY: dict[str, str] = {
    "keras 1 arguments": """
from keras.models import Sequential
from keras.layers import Dense, Dropout, Activation, Flatten
from keras.layers import Convolution2D, MaxPooling2D  # a kernel of 3 by 3 is meant below
from keras.datasets import mnist
(X_train, y_train), (X_test, y_test) = mnist.load_data()
X_train = X_train.reshape(60000, 28, 28, 1) / 255.
model = Sequential()
model.add(Convolution2D(32, 3, 3, border_mode='same'))  #: removed-in-keras #: argument-means-something-else
model.add(Flatten())
model.add(Dense(10, activation='softmax'))
model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
history = model.fit(X_train, y_train, nb_epoch=10, validation_split=0.1)
acc = history.history['val_acc']
""",
    "python 2 with a statement that nobody can read": """
import numpy as np
from keras.models import Sequential
from keras.layers import Dense, Flatten
from keras.datasets import mnist
(X_train, y_train), (X_test, y_test) = mnist.load_data()  #: inputs-not-scaled
print "shape", X_train.shape
exec "x = 1" in {}
weights = [1, 2,, 3]
model = Sequential()
model.add(Flatten())
model.add(Dense(10, activation='softmax'))
model.compile('sgd', 'sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(X_train, y_train, epochs=10)
print model.evaluate(X_test, y_test)
""",
    "P0": """
import numpy as np
import matplotlib.pyplot as plt
import seaborn as sns
from tqdm import tqdm
from keras.datasets import mnist
from keras.models import Sequential
from keras.layers import Dense, Conv2D, MaxPooling2D, Dropout, Flatten, BatchNormalization
from keras.optimizers import RMSprop
from keras.callbacks import ModelCheckpoint, EarlyStopping
from keras.preprocessing.image import ImageDataGenerator
from sklearn.model_selection import train_test_split
from sklearn.metrics import confusion_matrix

(x_train, y_train), (x_test, y_test) = mnist.load_data()
n_train, n_test = 80, 20
#n_train, n_test = 800, 200
x_train, y_train = x_train[:n_train], y_train[:n_train]
x_test, y_test = x_test[:n_test], y_test[:n_test]  #: test-too-small
x_train = x_train.reshape(n_train, 28, 28, 1) / 255
x_test = x_test.reshape(n_test, 28, 28, 1) / 255

model = Sequential()
for first in (True, False):
    model.add(Conv2D(64, (3, 3), padding='same', activation='relu'))
    BatchNormalization(axis=-1)  #: layer-not-connected
    model.add(Conv2D(64, (3, 3), padding='same', activation='relu'))
    BatchNormalization(axis=-1)
    model.add(MaxPooling2D(pool_size=2))
    model.add(Dropout(0.20))
model.add(Conv2D(128, (3, 3), padding='same', activation='relu'))
model.add(Flatten())
model.add(Dense(64, activation='relu'))
model.add(Dense(10, activation='softmax'))
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=40)
print(model.evaluate(x_test, y_test))

datagen = ImageDataGenerator(  #: augmentation-extreme
    featurewise_center=False, samplewise_center=False, featurewise_std_normalization=False,
    samplewise_std_normalization=False, zca_whitening=False, rotation_range=10, zoom_range=[2.0, 0.1],
    width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=False, vertical_flip=False)
datagen.fit(x_train)
train_flow = datagen.flow(x_train, y_train, batch_size=n_train // 5)
testgen = ImageDataGenerator(rotation_range=10, zoom_range=[2.0, 0.1], width_shift_range=0.1, height_shift_range=0.1)
testgen.fit(x_test)
test_flow = testgen.flow(x_test, y_test, batch_size=n_test // 2)  #: validation-augmented
history = model.fit(train_flow, epochs=100, steps_per_epoch=5,  #: fit-twice
                    validation_data=test_flow, validation_steps=2)
print(model.evaluate(x_test, y_test))
plt.plot(history.history['accuracy'])
""",
    "P1": """
import pandas as pd
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.metrics import confusion_matrix
from keras.utils.np_utils import to_categorical  #: removed-in-keras
from keras.models import Sequential
from keras.layers import Dense, Dropout, Flatten, Conv2D, MaxPool2D
from keras.optimizers import RMSprop
from keras.preprocessing.image import ImageDataGenerator
from keras.callbacks import ReduceLROnPlateau

train = pd.read_csv("../input/train.csv")
test = pd.read_csv("../input/test.csv")
Y_train = train["label"]
X_train = train.drop(labels=["label"], axis=1)
del train
print(Y_train.value_counts(), X_train.isnull().any().describe())
X_train = X_train / 255.0
test = test / 255.0
X_train = X_train.values.reshape(-1, 28, 28, 1)
test = test.values.reshape(-1, 28, 28, 1)
Y_train = to_categorical(Y_train, num_classes=10)
X_train, X_val, Y_train, Y_val = train_test_split(X_train, Y_train, test_size=0.1, random_state=3)
model = Sequential()
model.add(Conv2D(filters=32, kernel_size=(5, 5), padding='Same', activation='relu', input_shape=(28, 28, 1)))
model.add(Conv2D(filters=32, kernel_size=(5, 5), padding='Same', activation='relu'))
model.add(MaxPool2D(pool_size=(2, 2)))
model.add(Dropout(0.25))
model.add(Flatten())
model.add(Dense(256, activation="relu"))
model.add(Dropout(0.25))
model.add(Dense(10, activation="softmax"))
optimizer = RMSprop(lr=0.001, rho=0.9, epsilon=1e-08, decay=0.0)  #: ignored-argument
model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
reduction = ReduceLROnPlateau(monitor='val_acc', patience=3, factor=0.5, min_lr=0.00001)  #: monitor-matches-nothing
datagen = ImageDataGenerator(rotation_range=10, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1)
datagen.fit(X_train)
history = model.fit_generator(datagen.flow(X_train, Y_train, batch_size=100), epochs=40,
                              validation_data=(X_val, Y_val), steps_per_epoch=X_train.shape[0] // 100,
                              callbacks=[reduction])
Y_pred_classes = np.argmax(model.predict(X_val), axis=1)
results = np.argmax(model.predict(test), axis=1)
""",
    "P2": """
from keras.datasets import cifar10
from keras.models import Sequential
from keras.layers import Dense, Flatten, Conv2D, MaxPooling2D, Dropout
from keras.utils import to_categorical
(x_train, y_train), (x_test, y_test) = cifar10.load_data()  #: preparation-differs
x_train = x_train / 255.0
y_train = to_categorical(y_train)
y_test = to_categorical(y_test)
model = Sequential()
model.add(Conv2D(256, (3, 3), activation='relu', input_shape=(32, 32, 3)))  #: filters-shrink
model.add(MaxPooling2D(pool_size=(2, 2)))
model.add(Conv2D(128, (2, 2), activation='relu'))
model.add(MaxPooling2D(pool_size=(2, 2)))
model.add(Flatten())
model.add(Dense(1024, activation='relu'))
model.add(Dropout(0.5))
model.add(Dense(10, activation='softmax'))
model.compile(loss='categorical_crossentropy', optimizer='adam', metrics=['accuracy'])
model.fit(x_train, y_train, batch_size=1000, epochs=5,
          validation_data=(x_test, y_test))  #: test-set-chooses
""",
    "P3": """
import os
import numpy as np
import tensorflow as tf
from keras.models import Model
from keras.layers import Input, Conv2D, Flatten, Dense, Dropout, Activation
from keras.optimizers import Adam
from keras.preprocessing.image import ImageDataGenerator  #: removed-in-keras
from keras.utils import to_categorical

def load_mnist(folder, kind):
    labels = np.fromfile(os.path.join(folder, kind + '-labels-idx1-ubyte'), dtype=np.uint8)
    images = np.fromfile(os.path.join(folder, kind + '-images-idx3-ubyte'), dtype=np.uint8)
    return images[16:].reshape(-1, 28, 28, 1).astype('float32') / 255, to_categorical(labels[8:], 10)

def build():
    inputs = Input(shape=(28, 28, 1))
    x = Conv2D(256, 5, padding='same', activation='relu')(inputs)
    x = Conv2D(256, 5, padding='same', activation='relu')(x)
    x = Conv2D(128, 5, padding='same', activation='relu')(x)
    x = Flatten()(x)
    x = Dense(328, activation='relu')(x)
    x = Dense(192, activation='relu')(x)
    x = Dropout(0.5)(x)
    x = Activation('softmax')(Dense(10)(x))
    model = Model(inputs=inputs, outputs=x)
    model.compile(optimizer=Adam(lr=0.0005), loss='categorical_crossentropy', metrics=['accuracy'])
    return model

x_train, y_train = load_mnist('data', 'train')
x_test, y_test = load_mnist('data', 't10k')
model1 = build()
np.random.seed(1)
tf.set_random_seed(1)
h1 = model1.fit(x_train, y_train, batch_size=64, epochs=20,
                validation_data=(x_test, y_test))  #: test-set-chooses
gen = ImageDataGenerator(width_shift_range=0.1, height_shift_range=0.1)
model2 = build()
h2 = model2.fit_generator(gen.flow(x_train, y_train, batch_size=64), steps_per_epoch=60000 // 64, epochs=20,
                          validation_data=(x_test, y_test))
with open('model.json', 'w') as f:
    f.write(model2.to_json())
model2.save_weights('model.h5')
""",
    "P4": """
import tensorflow as tf
from tensorflow import keras

class StopAtNinetyNine(keras.callbacks.Callback):  #: callback-not-passed
    def on_epoch_end(self, epoch, logs={}):
        if logs.get('acc') > 0.99:
            self.model.stop_training = True

data = keras.datasets.fashion_mnist
(train_images, train_labels), (test_images, test_labels) = data.load_data()  #: inputs-not-scaled
train_scaled = train_images / 255.0  #: scaled-copy-unused
test_scaled = test_images / 255.0  #: preparation-differs
dense = keras.models.Sequential([
    keras.layers.Flatten(),
    keras.layers.Dense(128, activation=tf.nn.relu),
    keras.layers.Dense(10, activation=tf.nn.softmax),
])
dense.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
dense.fit(train_images, train_labels, epochs=5)
print(dense.evaluate(test_scaled, test_labels))

training_images = train_images.reshape(60000, 28, 28, 1) / 255.0
checking_images = test_images.reshape(10000, 28, 28, 1) / 255.0
conv = keras.models.Sequential([
    keras.layers.Conv2D(64, (3, 3), activation='relu', input_shape=(28, 28, 1)),
    keras.layers.MaxPooling2D(2, 2),
    keras.layers.Conv2D(64, (3, 3), activation='relu'),
    keras.layers.MaxPooling2D(2, 2),
    keras.layers.Flatten(),
    keras.layers.Dense(128, activation='relu'),
    keras.layers.Dense(10, activation='softmax'),
])
conv.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
conv.fit(training_images, train_labels, epochs=5)
print(conv.evaluate(checking_images, test_labels))
""",
}
